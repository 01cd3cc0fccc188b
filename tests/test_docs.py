"""The documentation names what there is. `python -m tests.test_docs` writes docs/files.md and docs/settings.md."""

import ast
import re
from pathlib import Path

from typer.main import get_command

from daybreak.cli import app
from daybreak.config import Config, documented_fields
from daybreak.config.documentation import first_sentence, forms
from daybreak.config.overrides import sections

ROOT = Path(__file__).parents[1]
FILES = ROOT / "docs" / "files.md"
SETTINGS = ROOT / "docs" / "settings.md"


def listing() -> str:
    """docs/files.md: each module with the first line of its docstring."""
    lines = ["# Every file, in one line", ""]
    room = None
    for path in sorted((ROOT / "daybreak").rglob("*.py"), key=lambda p: (p.parent.parts, p.name)):
        if path.name.startswith("__"):
            continue
        if path.parent != room:
            room = path.parent
            lines += ([""] if lines[-1] else []) + [f"## {room.relative_to(ROOT)}", ""]
        meaning = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        assert meaning, f"{path} says nothing of itself"
        lines.append(f"- `{path.name}`: {meaning}")
    return "\n".join(lines) + "\n"


def settings() -> str:
    """docs/settings.md: the settings of a run, and the options of each command, with defaults, bounds and meanings."""
    lines = [
        "# Every setting and option",
        "",
        "Made from the fields in the source by `python -m tests.test_docs`; `daybreak settings RECIPE` has a recipe's.",
        "",
        "## Settings of a run: `--section.field VALUE`, or `section:` and `field:` in a YAML file",
    ]
    for section, fields in documented_fields(Config()):
        rows = [(f"{section}.{n}", forms(sections()[section])[n], value, text) for n, value, text in fields]
        lines += ["", f"### {section}: {first_sentence(sections()[section])}", "", *table(rows)]
    lines += ["", "## Options of the commands"]
    for name, command in sorted(vars(get_command(app))["commands"].items()):
        options = [o for o in command.params if o.name != "help"]
        rows = [(o.opts[0], o.metavar or "", shown_default(o.default), o.help) for o in options]
        lines += ["", f"### daybreak {name}: {first_sentence(command.callback)}", "", *table(rows)]
    return "\n".join(lines) + "\n"


def shown_default(value: object) -> str:
    return "" if value in (None, False) else "yes" if value is True else str(value)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    cells = [[f"`{row[0]}`", *(cell.replace("|", " \\| ").replace("<", "&lt;") for cell in row[1:])] for row in rows]
    return ["| | | default | |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells)]


def test_every_setting_is_listed():
    assert SETTINGS.read_text() == settings(), "docs/settings.md is out of date: python -m tests.test_docs"


def test_every_file_is_listed():
    assert FILES.read_text() == listing(), "docs/files.md is out of date: python -m tests.test_docs"


def test_every_file_that_a_document_names_exists():
    missing = []
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for name in re.findall(r"`((?:docs|benchmarks|daybreak|deploy|tests)/[\w/.-]+)`", document.read_text()):
            if not (ROOT / name).exists():
                missing.append(f"{document.name}: {name}")
    assert not missing


def test_no_document_holds_the_marks_of_a_merge():
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "RESULTS.md"]
    assert len(documents) > 10
    assert not [d for d in documents if re.search("^(<{7} |={7}$|>{7} )", d.read_text(encoding="utf-8"), re.M)]


def test_every_kind_of_data_has_its_test():
    text = (ROOT / "docs" / "data_format.md").read_text(encoding="utf-8")
    table = text.split("## What is read")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]  # below the heads
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)`", row.rpartition(" | ")[2])
        assert named and all((ROOT / "tests" / "data" / name).is_file() for name in named), row


def test_every_command_is_in_the_readme():
    names = {(c.name or c.callback.__name__).replace("_", "-") for c in app.registered_commands}
    text = (ROOT / "README.md").read_text()
    assert not [name for name in sorted(names) if f"daybreak {name}" not in text and f"`{name}`" not in text]


if __name__ == "__main__":
    FILES.write_text(listing())
    SETTINGS.write_text(settings())
