"""A run without compilation does not wait for torch's compiler to be imported."""

import subprocess
import sys

import pytest

OPTIMISER = """
from torch import nn
from daybreak.optim.adamw import AdamW
from daybreak.compiler import keep_away
keep_away(torch.optim.Optimizer, "add_param_group", "zero_grad", "state_dict", "load_state_dict")
layer = nn.Linear(3, 3)
optimizer = AdamW(layer.parameters(), lr=0.1)
before = layer.weight.detach().clone()
layer(torch.ones(2, 3)).sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
assert not layer.weight.equal(before) and layer.weight.grad is None
"""
PLAN = """
from daybreak.plan.account import account
from daybreak.recipes import recipe
(plan,) = account(recipe("scenes"), 64)
assert sum(p.training for p in plan.parts) > 0
"""
PROGRAM = f"""
import sys, torch
{OPTIMISER}
assert "torch._dynamo" not in sys.modules
print("an optimiser")
{PLAN}
assert "torch._dynamo" not in sys.modules
print("a plan")
compiled = torch.compile(nn.Linear(3, 3), backend="eager")  # the compiler is there for whoever asks
assert compiled(torch.ones(2, 3)).shape == (2, 3) and "torch._dynamo" in sys.modules
print("the compiler")
"""


@pytest.fixture(scope="module")
def without_the_compiler():
    """What a new interpreter says, which makes an optimiser and a plan, and then compiles: what of it went well."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    return done.stdout.splitlines(), done.stderr


def test_an_optimiser_is_made_without_the_compiler(without_the_compiler):
    said, errors = without_the_compiler
    assert "an optimiser" in said and "the compiler" in said, errors


def test_training_starts_without_transformers_and_the_compiler(tmp_path):
    script = (
        "import sys\nfrom daybreak.cli import entry\nimport atexit\n"
        "late = ('transformers', 'torch._dynamo', 'torch.distributed.tensor', 'matplotlib')\n"
        "import daybreak.train.watch as watch\nreal = watch.LogFiles.on_step\n"
        "def on_step(self, record):\n"
        "    assert not [m for m in late if m in sys.modules], [m for m in late if m in sys.modules]\n"
        "    print('no', *late)\n    real(self, record)\n"
        "watch.LogFiles.on_step = on_step\n"
        "atexit.register(lambda: print('matplotlib' in sys.modules and 'heavy' or 'light'))\nentry()\n"
    )
    words = ["train", "scenes", "--train.minutes", "none", "--train.steps", "1", "--train.batch", "4", "--out", "run"]
    words += ["--evaluate.prompts_per_task", "1", "--evaluate.held_out_prompts", "1", "--sample.steps", "1"]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "no transformers" in done.stdout, done.stderr[-2000:]
    assert done.stdout.endswith("light\n"), "samples are drawn without matplotlib"


def test_a_plan_is_made_without_the_compiler_which_is_there_afterwards(without_the_compiler):
    said, errors = without_the_compiler
    assert "a plan" in said and "the compiler" in said, errors
