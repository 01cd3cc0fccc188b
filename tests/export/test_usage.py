"""The lines that the card shows and `export` prints run as they stand, with nothing but what they say to install."""

import io
import json
import re
import subprocess
import sys

import pytest
from PIL import Image
from rich.console import Console

from daybreak.commands.export import run_export
from daybreak.export.licences import Licences
from daybreak.export.usage import OPENS, versions
from daybreak.finetune.families import FAMILIES
from tests.finetune import tiny
from tests.waiting import LONG

DTYPES = ("float32", "float16", "bfloat16")
OTHER_PACKAGES = ("daybreak", "peft", "ftfy", "sentencepiece", "datasets", "torchao")
RUN = """
import gc, json, os, sys, warnings

gc.disable()  # libraries load a fifth faster
for name in sys.argv[2].split(","):
    sys.modules[name] = None  # importing it fails here, wherever it is installed
for folder, lines in json.loads(open(sys.argv[1]).read()):
    os.chdir(folder)
    print(folder, flush=True)
    exec(compile(lines, folder, "exec"), {})
"""


def exported(run, out, dtype):
    """The card, and what export printed."""
    printed = io.StringIO()
    run_export(Console(file=printed, width=40), run, "diffusers", out, dtype, Licences())
    return (out / "README.md").read_text(), printed.getvalue()


def check(tmp_path, folders, packages):
    """Runs the lines of each folder in a folder of its own; a picture has to be there."""
    work = []
    for name, (card, printed) in folders.items():
        (block,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        opening = printed[printed.index("import torch") : printed.index("README.md")].rsplit("\n", 1)[0]
        assert block.startswith(opening.strip()), "export prints the lines that the card begins with"
        (install,) = re.findall(r"```\n(pip install .*?)\n```", card)
        assert install in printed and "+cpu" not in install
        assert {p.split("==")[0] for p in install.split()[2:]} == packages
        (tmp_path / name).mkdir()
        work.append((str(tmp_path / name), block))
    (tmp_path / "work.json").write_text(json.dumps(work))
    missing = ",".join(p for p in OTHER_PACKAGES if p not in packages)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "work.json"), missing], capture_output=True, text=True, timeout=LONG
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    for name in folders:
        assert Image.open(tmp_path / name / "picture.png").width >= 16


PACKAGES = {"torch", "diffusers", "transformers", "accelerate"}


@pytest.mark.parametrize("dtypes", [("bfloat16",), pytest.param(("float32", "float16"), marks=pytest.mark.slow)])
def test_own_runs(finished_run, dtypes, tmp_path):
    folders = {d: exported(finished_run, tmp_path / f"model {d}", d) for d in dtypes}
    check(tmp_path, folders, PACKAGES | {"ftfy"})


@pytest.mark.parametrize(
    "families, dtypes",
    [
        (("sd",), ("float16",)),
        pytest.param(("sd", "sdxl", "sd3", "flux"), DTYPES, marks=pytest.mark.slow),
    ],
)
def test_fine_tuned_models(families, dtypes, tmp_path):
    pictures = tiny.write_pictures(tmp_path / "pictures", 8)
    folders = {}
    for name in families:
        base = getattr(tiny, f"save_{name}")(tmp_path / name / "base")
        changes = {"method": "lora", "rank": 2, "steps": 1, "resolution": 16, "batch": 2}
        run = tiny.finetune(base, pictures, tmp_path / name / "run", **changes).folder
        folders |= {f"{name}-{d}": exported(run, tmp_path / name / d, d) for d in dtypes}
    check(tmp_path, folders, PACKAGES)
    card = next(iter(folders.values()))[0]
    for words in ("license: unknown", "LoRA trained, and merged", "8 captioned pictures from `pictures`", "1 steps"):
        assert words in card
    head = card.split("---\n")[1]
    assert "base_model" not in head and str(tmp_path) not in head  # a folder of this machine


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_opens_without_a_dtype_too(dtype, finished_run, tmp_path):
    from diffusers import DiffusionPipeline

    exported(finished_run, tmp_path / "model", dtype)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert {str(pipeline.text_encoder.dtype), str(pipeline.transformer.dtype)} == {"torch.float32"}
    size = pipeline.config.default_sample_size
    options = {"num_inference_steps": 1, "height": size, "width": size, "use_resolution_binning": False}
    assert pipeline("a red circle", **options).images[0].width == size


def test_a_plain_folder_shows_commands_that_name_it(finished_run, tmp_path):
    run_export(Console(quiet=True), finished_run, "safetensors", tmp_path / "my model", "float32", Licences())
    card = (tmp_path / "my model" / "README.md").read_text()
    assert f"daybreak serve '{tmp_path / 'my model'}'\n" in card and "FOLDER" not in card


def test_the_card_says_what_was_measured():
    assert OPENS.keys() == FAMILIES.keys()
    for kind, pairs in OPENS.items():
        assert all(f"diffusers {d} with transformers {t}" in versions(kind) for d, t in pairs)
        newest = max(tuple(map(int, d.split("."))) for d, _ in pairs)
        assert newest >= (0, 42), "measure again with the versions that pyproject.toml asks for: benchmarks/opens.py"
