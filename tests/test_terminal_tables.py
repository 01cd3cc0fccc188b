"""No number, no name, no flag is cut at 80 or 100 columns; what is told as JSON is JSON alone."""

import json
import re
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from daybreak import cli
from daybreak.display import Display
from daybreak.phases import Phase, advance, counted, phase, shown_by
from daybreak.tables import print_facts, print_table
from daybreak.terminal import Curve
from daybreak.train.loop import train
from daybreak.train.watch import SampleRecord, StepRecord
from tests.conftest import tiny_config
from tests.making import captioned_folder

COMMANDS: dict[str, Any] = vars(typer.main.get_command(cli.app))["commands"]
WIDTHS = (80, 100)


def said(monkeypatch, width, *words):
    """What a command prints in a terminal of that width."""
    monkeypatch.setattr(cli, "console", Console(width=width))
    result = CliRunner().invoke(cli.app, [*map(str, words)], env={"COLUMNS": str(width)})
    assert result.exit_code == 0, (result.exception, result.output)
    return result.output


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    settings = {"train__sample_every": 1.0, "train__watch_every": 2, "budget__price": 2.0, "sample__steps": 2}
    for name, steps in (("one", 2), ("another-with-a-name-that-says-a-lot-20261128-101500", 3), ("third", 4)):
        train(tiny_config(train__steps=steps, **settings), folder / name, [])
    return folder


def whole(text: str) -> set[str]:
    """The words of a text."""
    return set(text.split())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_cuts_nothing(monkeypatch, width, command):
    words = ["--help"] if command is None else [command, "--help"]
    text = said(monkeypatch, width, *words)
    assert "…" not in text
    prose = [line for line in text.splitlines() if not line.startswith(("  daybreak", "  torchrun", "Usage"))]
    assert max(map(len, prose)) <= width
    if command is None:
        assert all(re.search(rf"^  {name} ", text, re.M) for name in COMMANDS)
    else:
        for option in COMMANDS[command].params:
            assert not option.opts[0].startswith("--") or option.opts[0] in whole(text.replace(",", " "))


def test_listings_cut_nothing(monkeypatch, runs, tmp_path):
    folders = sorted(p for p in runs.iterdir() if p.is_dir())
    pictures = captioned_folder(tmp_path / "pictures", 12)
    for words in (
        ["plan", "speedrun", "--gpus", 32, "--gpu", "h200", "--price", 2.0, "--deadline", "24h"],
        ["settings", "speedrun"],
        ["runs", runs],
        ["status", folders[0]],
        ["compare", *folders, "--out", tmp_path / "losses.png"],
        ["inspect", pictures, "--page", tmp_path / "page.html", "--workers", 0],
    ):
        wide = said(monkeypatch, 1000, *words)
        for width in WIDTHS:
            text = said(monkeypatch, width, *words)
            assert "…" not in text, text
            assert whole(wide) <= whole(text), whole(wide) - whole(text)  # the same figures and names, whole


def test_json_is_all_that_is_printed(monkeypatch, runs, tmp_path):
    folders = sorted(p for p in runs.iterdir() if p.is_dir())
    pictures = captioned_folder(tmp_path / "pictures", 12)
    told = {
        words[0]: json.loads(said(monkeypatch, 80, *words, "--json"), parse_constant=lambda name: pytest.fail(name))
        for words in (
            ["runs", runs],
            ["status", folders[1]],
            ["compare", *folders, "--out", tmp_path / "losses.png"],
            ["plan", "speedrun", "--gpu", "h200", "--price", 2.0, "--deadline", "24h"],
            ["settings", "scenes"],
            ["inspect", pictures, "--page", tmp_path / "page.html", "--workers", 0],
        )
    }
    assert [run["step"] for run in told["compare"]["runs"]] == [3, 2, 4]
    assert told["compare"]["settings_that_differ"] == {"train.steps": ["3", "2", "4"]}
    assert told["status"]["step"] == 2 and told["status"]["state"] == "finished" and told["status"]["loss"] > 0
    assert told["status"]["checkpoints"][0]["damage"] is None and told["status"]["deadline"] is None
    assert {run["state"] for run in told["runs"]} == {"finished"} and told["runs"][0]["size"] > 1000
    assert told["plan"]["stages"][0]["resolution"] == 512 and told["plan"]["forecast"]["hours"] == pytest.approx(24)
    assert {"name", "value", "form", "meaning"} == set(told["settings"]["train"][0])
    assert told["inspect"]["size"] == 96 and told["inspect"]["figures"]["usable_pictures"] == 12


def test_runs_tells_of_what_it_cannot_read_and_what_has_not_begun(monkeypatch, runs, tmp_path):
    good = (runs / "one" / "config.yaml").read_text()
    for name, config, log in (("begun", good, ""), ("broken", "]", ""), ("other", good, '{"event": "step"}\n3\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(config)
        (tmp_path / name / "log.jsonl").write_text(log)
    states = {
        run["run"].rpartition("/")[2]: run["state"]
        for run in json.loads(said(monkeypatch, 80, "runs", tmp_path, "--json"))
    }
    assert states["begun"] == "no step yet" and "config.yaml" in states["broken"]
    assert states["other"].startswith("cannot be read")
    (tmp_path / "empty").mkdir()
    assert "no runs in" in said(monkeypatch, 80, "runs", tmp_path / "empty")


def printed(width, function, *arguments, **options):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    function(console, *arguments, **options)
    return console.export_text()


@pytest.mark.parametrize(
    ("width", "begins"),
    [(80, ["run", "pictures"]), (28, ["run", "runs/number-0"]), (17, ["runs/number-0", "pictures"])],
    ids=["as it is", "turned", "row by row"],
)
def test_a_table_is_turned_where_it_is_too_wide_and_nothing_is_lost(width, begins):
    rows = [[f"runs/number-{i}", f"{i}23,456", "", f"{i}.5"] for i in range(4)]
    text = printed(width, print_table, ["run", "pictures", "empty", "loss"], rows)
    known = {"pictures", "loss"} | {cell for row in rows for cell in row if cell}
    assert whole(text) - {"run"} == known and text.split()[:2] == begins


def test_facts_are_broken_between_words_and_commands_not_at_all():
    command = 'daybreak sample runs/a-long-name --prompt "a circle"'
    text = printed(40, print_facts, [("what", "word " * 20), ("none", ""), ("do", command)])
    assert max(map(len, text.splitlines())) <= 40 and "none" not in text
    assert command in printed(40, print_facts, [("do", command)], whole=True)


def record(step: int, **changes: Any) -> StepRecord:
    terms = {"velocity": 0.8123, "perceptual": 0.4123, "grounding": 0.9214, "alignment": 1.0071}
    given: dict[str, Any] = {
        "step": step, "images": 48 * step, "seconds": 2.0 * step, "progress": step / 1000, "loss": 3.0 / step,
        "terms": terms, "gradient_norm": 1.0, "lr_factor": 1.0, "images_per_second": 123.4, "waiting": 0.02,
        "seconds_left": 3000.0, "seconds_to_end": 3065.0, "cost": 1.5, "cost_forecast": 1234.5,
    }  # fmt: skip
    return StepRecord(**(given | changes))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_live_display_fits_and_tells_of_time_loss_and_phases(width):
    console = Console(width=width, force_terminal=True, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    display = Display(console)
    for step in range(1, 200):
        display.on_step(record(step))
    display.on_samples(SampleRecord(199, 9552, 398.0, "runs/a-name-20261128/samples/step-00000199.png", 0.25))
    display.on_phase(Phase("drawing samples", 24, 6))
    lines = ["".join(part.text for part in line) for line in console.render_lines(display, pad=False)]
    assert all(Text(line).cell_len <= width for line in lines) and len(lines) <= 6
    text = "\n".join(lines)
    for part in ("training", "20%", "elapsed", "51:0", "left", "step 199", "alignment 1.0071", "USD 1.50 of 1,234.50",
                 "samples/step-00000199.png", "prompts followed 25%", "drawing samples", "6 of 24"):  # fmt: skip
        assert part in text
    assert re.search(r"loss \d\.\d+ █[▁-█]+▁", text)


def test_a_curve_keeps_its_whole_course_in_few_letters():
    curve = Curve()
    for n in range(10_000):
        curve.add(abs(5_000 - n))
    assert 16 <= len(curve.drawn()) <= 32 and curve.drawn()[0] == "█" and "▁" in curve.drawn()[10:20]


def test_phases_are_told_to_who_listens_and_count_their_parts():
    heard: list[tuple[str, int | None, float] | None] = []
    with shown_by(lambda p: heard.append(None if p is None else (p.name, p.total, p.done))):
        with phase("judging", 4):
            for _ in counted(range(2), 2):
                advance(2)
        with phase("drawing"):
            for _ in counted(range(1), 3):
                advance()
    assert heard == [("judging", 4, 0), ("judging", 4, 2), ("judging", 4, 4), None,
                     ("drawing", None, 0), ("drawing", 3, 1), None]  # fmt: skip
    with phase("unheard"):
        advance()
