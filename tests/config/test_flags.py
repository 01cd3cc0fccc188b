"""What the command line takes and says is what the settings' fields hold: names, defaults, bounds, meanings."""

import dataclasses
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from daybreak import cli
from daybreak.commands.flags import App
from daybreak.config import BudgetConfig, Config, ConfigError
from daybreak.config.bounds import Bounds, Count, Flag, Share
from daybreak.config.documentation import meanings
from daybreak.config.fields import Checked, as_words, fields_of
from daybreak.config.overrides import sections
from daybreak.config.quantities import time_in
from daybreak.config.settings import StageConfig
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.settings import Captioning, CaptionSettings, ModelWork, Work
from daybreak.encoders.settings import EmbedSettings
from daybreak.evaluate.measures import METRICS
from daybreak.evaluate.request import Drawing, Request
from daybreak.export.licences import Licences
from daybreak.finetune.settings import LEARNING_RATES, FinetuneSettings
from daybreak.launch.settings import LaunchSettings
from daybreak.recipes import RECIPES, VARIANTS
from daybreak.serve.ray_app import RaySettings
from daybreak.serve.settings import ServeSettings
from daybreak.vote.settings import QUESTIONS, Address, BlindSettings

COMMANDS: dict[str, Any] = vars(typer.main.get_command(cli.app))["commands"]
SETTINGS = {
    "finetune": [FinetuneSettings], "prepare": [PrepareSettings, Work], "inspect": [PrepareSettings],
    "serve": [ServeSettings], "evaluate": [Request, Drawing], "sample": [Drawing], "train": [BudgetConfig],
    "plan": [BudgetConfig], "launch": [LaunchSettings], "embed": [EmbedSettings, ModelWork], "export": [Licences],
    "caption": [CaptionSettings, Captioning, ModelWork], "compare-blind": [BlindSettings, Address],
}  # fmt: skip


OWN_DEFAULT = {("inspect", "size")}
"""Options that have another default than the field."""


def help_of(command: str) -> str:
    """As one line."""
    said = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "1000", "TERM": "dumb"})
    assert said.exit_code == 0, said.output
    return re.sub(r"\s+", " ", said.output)


@pytest.mark.parametrize(
    "kind", [*sections().values(), StageConfig, RaySettings, *(kind for kinds in SETTINGS.values() for kind in kinds)]
)
def test_every_field_has_a_sentence(kind):
    for name in fields_of(kind):
        meaning = meanings(kind)[name]
        assert len(meaning) > 10 and meaning[0] == meaning[0].upper() and meaning.endswith("."), (
            f"{kind.__name__}.{name}"
        )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_sentence(command):
    for option in COMMANDS[command].params:
        if option.name != "help":
            assert option.help, f"{command}: {option.name}"


@pytest.mark.parametrize(("command", "kind"), [(c, kind) for c, kinds in SETTINGS.items() for kind in kinds])
def test_options_are_the_fields(command, kind):
    """Each field has its flag, and the help shows its default."""
    shown, text = {p.name: p for p in COMMANDS[command].params}, help_of(command)
    for name, f in fields_of(kind).items():
        option = shown[name]
        if (command, name) in OWN_DEFAULT:
            continue
        if f.flag.startswith("--"):
            assert f.flag in option.opts and f.flag in text
        if f.default is dataclasses.MISSING:
            assert option.required
        elif f.default in (None, "", (), {}):
            assert not option.default
        elif f.kind is not bool:
            default = [f.shown(v) for v in f.default] if f.many else f.shown(f.default)
            assert option.default == default and f"[default: {', '.join(default) if f.many else default}]" in text
        else:
            assert option.default is f.default


def test_help_lists_what_there_is():
    train = help_of("train")
    assert all(f" {name} " in train for name in (*RECIPES, *VARIANTS))
    evaluate = help_of("evaluate")
    assert all(f" {name} {m.meaning}" in evaluate for name, m in METRICS.items())
    finetune = help_of("finetune")
    assert all(method in finetune for method in LEARNING_RATES)
    rates = re.findall(r"\d\S*e-\d", meanings(FinetuneSettings)["lr"])
    assert list(map(float, rates)) == list(dict.fromkeys(LEARNING_RATES.values()))
    assert all(question in meanings(BlindSettings)["questions"] for question in QUESTIONS)


@dataclass(frozen=True)
class Inner(Checked):
    share: Share = 0.5
    """A share."""


@dataclass(frozen=True)
class Example(Checked):
    count: Count = 3
    """How many there are."""
    wait: Annotated[float, Bounds(most=60), time_in("s"), Flag("--patience")] = 2.0
    """How long to wait."""
    names: tuple[Literal["ann", "bob"], ...] = ()
    """Who comes; empty: all."""
    place: Path | None = None
    """Where; none: here."""
    loud: bool = False
    """Speak up."""
    inner: Inner = field(default_factory=Inner)


def read(*words: str, kind: Any = Example) -> Any:
    """The settings that a command of one parameter is given for these words."""
    app, got = App(), []

    def command(settings) -> None:
        got.append(settings)

    command.__annotations__ = {"settings": kind, "return": None}
    app.command()(command)
    app(list(words), standalone_mode=False)
    return got[0]


def test_options_are_read_into_the_settings():
    assert read() == Example()
    words = (
        "--count",
        "5",
        "--patience",
        "1s",
        "--names",
        "bob",
        "--names",
        "ann",
        "--place",
        "x",
        "--loud",
        "--share",
        "1",
    )
    assert read(*words) == Example(5, 1.0, ("bob", "ann"), Path("x"), True, Inner(1.0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "0"], "--count is 0; it must be at least 1"),
        (["--count", "some"], "--count is 'some'; it must be a whole number"),
        (["--patience", "2min"], "--patience is 2min; it must be at most 1min"),
        (["--patience", "2"], "--patience is '2'; it must be a time with its unit: 24h, 90min, 1h30m, 45s or 5ms"),
        (["--names", "anne"], "--names is 'anne'; it must be one of ann, bob; did you mean ann?"),
        (["--share", "nan"], "--share is 'nan'; it must be a number"),
    ],
)
def test_a_wrong_option_gets_one_line(words, message):
    with pytest.raises(ConfigError) as caught:
        read(*words)
    assert str(caught.value) == message


def test_a_parameter_of_the_function_is_read_and_hides_a_field():
    app, got = App(), []

    @app.command()
    def command(example: Inner, share: Annotated[Count, "How many shares."] = 2) -> None:
        got.append((example, share))

    app(["--share", "7"], standalone_mode=False)
    assert got == [(Inner(), 7)]
    with pytest.raises(ConfigError, match="--share is 0; it must be at least 1"):
        app(["--share", "0"], standalone_mode=False)


def test_another_default_is_another_command_line():
    """Of serve: the default of `queue` is edited in the source, as its owner would."""
    program = (
        "from pathlib import Path\n"
        "import daybreak.serve.settings as s\n"
        "file = Path(s.__file__); text = file.read_text()\n"
        "assert 'queue: Annotated[int, Bounds(least=1, most=MAX_QUEUE)] = 64' in text\n"
        "exec(compile(text.replace('= 64', '= 65'), str(file), 'exec'), vars(s))\n"
        "from daybreak.cli import app; app(['serve', '--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}
    )
    assert "[default: 65]" in done.stdout and "[default: 64]" not in done.stdout, done.stderr


def test_settings_become_options_again():
    words = as_words(BudgetConfig(hours=1.5, usd=1500.0, price=2.5))
    assert words == ["--deadline", "1h30min", "--budget", "1500usd", "--price", "2.5/gpu-hour"]
    assert read(*words, kind=BudgetConfig) == BudgetConfig(hours=1.5, usd=1500.0, price=2.5)
    assert Config().budget == BudgetConfig()


def test_help_loads_nothing_that_takes_long():
    program = "import sys, daybreak.cli as c; c.app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "daybreak.cli" in loaded and not loaded & {"torch", "transformers", "scipy", "numpy", "PIL", "pyarrow"}
