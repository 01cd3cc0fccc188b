"""The documentation names what there is.  `python -m tests.test_docs` writes docs/files.md anew."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ROOT / "docs" / "files.md"


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
    from daybreak.cli import app

    names = {(c.name or c.callback.__name__).replace("_", "-") for c in app.registered_commands}
    text = (ROOT / "README.md").read_text()
    assert not [name for name in sorted(names) if f"daybreak {name}" not in text and f"`{name}`" not in text]


if __name__ == "__main__":
    FILES.write_text(listing())
