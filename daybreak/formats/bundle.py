"""One Python file out of several modules of this package: a definition, and all that it needs of ours.

An exported model brings its code along. So that this is no second copy to keep up to date, it is cut out of the source:
functions, classes and constants, word for word, from every module that is reached; what nothing needs stays behind.
Annotations are not followed, since `from __future__ import annotations` leaves them unread.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from daybreak import __version__

PACKAGE = "daybreak"
KERNELS = "daybreak.cpu"
"""What speeds training up on a CPU, with the machine's own compiler: files go without it, by the plain forms."""
NO_KERNELS = """# {package}: left out
kernels = SimpleNamespace(in_training=lambda _x: False, usable=lambda _x: False)
functions = SimpleNamespace()  # asked of where kernels are usable alone"""
HEAD = '''"""{first_line}

Written by `daybreak export` (daybreak {version}, Apache-2.0) out of the modules named below, word for word.
It needs {needs}; daybreak itself it does not need. Annotations may name what is not here: nothing reads them.
"""

from __future__ import annotations
'''


@dataclass(frozen=True)
class _Import:
    """`from module import name as bound`, or `import module as bound` where name is empty."""

    module: str
    name: str
    bound: str

    @property
    def package(self) -> str:
        """The package that it comes from."""
        return self.module.split(".")[0]


@dataclass(frozen=True)
class _Source:
    """A module: its lines, its top-level definitions with their last lines, and what it imports, by the bound name."""

    lines: list[str]
    definitions: dict[str, tuple[ast.stmt, int]]
    imports: dict[str, _Import]

    def text(self, name: str) -> tuple[int, str]:
        """Where a definition begins, and its text: comments above it, decorators, and a docstring below it too."""
        node, last = self.definitions[name]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        while self.lines[first - 2].startswith("#"):
            first -= 1
        return first, "\n".join(self.lines[first - 1 : last])


def bundle(module: str, name: str, first_line: str) -> str:
    """The text of a file that defines `name` of `module` and whatever of this package it needs at run time.

    Raises ValueError where two of the definitions have one name.
    """
    kept: dict[str, set[str]] = {}  # names by module
    needs: dict[str, list[str]] = {}  # modules by module
    namespaces: dict[tuple[str, str], set[str]] = {}  # (module, how it is called) -> what is asked of it
    foreign: set[_Import] = set()
    left_out: set[str] = set()

    def keep(module: str, name: str) -> None:
        if name in kept.setdefault(module, set()):
            return
        kept[module].add(name)
        source = _read(module)
        node, _ = source.definitions[name]
        imports = (source.imports[n] for n in _names(node, True) if n in source.imports)
        foreign.update(i for i in imports if i.package != PACKAGE)
        for used in dict.fromkeys(_names(node, False)):
            found = _find(module, used)
            if found is None:
                continue
            place, definition = found
            if place.startswith(KERNELS):
                left_out.add(place)
                continue
            needs.setdefault(module, []).append(place)
            if definition is not None:
                keep(place, definition)
                continue
            wanted = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and _is_name(n.value, used)}
            namespaces.setdefault((place, used), set()).update(wanted)
            for attribute in sorted(wanted):
                keep(place, attribute)

    keep(module, name)
    if namespaces or left_out:
        foreign.add(_Import("types", "SimpleNamespace", "SimpleNamespace"))
    taken: dict[str, str] = {}
    sections: list[str] = [NO_KERNELS.format(package=KERNELS)] if left_out else []
    for place in _in_order(module, needs):
        for n in kept[place]:
            if taken.setdefault(n, place) != place:
                raise ValueError(f"both {taken[n]} and {place} define {n}: one file cannot hold the two")
        sections.append(f"# {place}")
        sections += [text for _, text in sorted({_read(place).text(n) for n in kept[place]})]
        for (of, alias), wanted in namespaces.items():
            if of == place:
                sections.append(f"{alias} = SimpleNamespace({', '.join(f'{n}={n}' for n in sorted(wanted))})")
    packages = sorted({i.package for i in foreign} - sys.stdlib_module_names)
    head = HEAD.format(first_line=first_line, version=__version__, needs=", ".join(packages))
    return "\n\n\n".join([head + "\n" + _import_lines(foreign), *sections]) + "\n"


def _in_order(module: str, needs: dict[str, list[str]]) -> list[str]:
    """Modules, each after those that it needs; `module` is the last."""
    order: dict[str, None] = {}
    begun: set[str] = set()

    def add(m: str) -> None:
        if m not in begun:
            begun.add(m)
            for needed in needs.get(m, []):
                add(needed)
            order[m] = None

    add(module)
    return list(order)


def _import_lines(imports: set[_Import]) -> str:
    lines = []
    names: dict[str, list[str]] = {}
    for i in sorted(imports, key=lambda i: (i.module, i.name)):
        if i.name:
            names.setdefault(i.module, []).append(i.name if i.name == i.bound else f"{i.name} as {i.bound}")
        else:
            lines.append(f"import {i.module}" + (f" as {i.bound}" if i.bound != i.module else ""))
    return "\n".join([*lines, *(f"from {module} import {', '.join(some)}" for module, some in names.items())])


@cache
def _read(module: str) -> _Source:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text(encoding="utf-8")
    body = ast.parse(text).body
    source = _Source(text.splitlines(), {}, {})
    for node, after in zip(body, [*body[1:], None], strict=True):
        last = node.end_lineno
        assert last is not None
        if isinstance(node, ast.Import):
            found = [_Import(a.name, "", a.asname or a.name) for a in node.names]
            source.imports.update({i.bound: i for i in found})
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found = [_Import(node.module, a.name, a.asname or a.name) for a in node.names]
            source.imports.update({i.bound: i for i in found})
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            source.definitions[node.name] = node, last
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                last = after.end_lineno or last
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for n in ast.walk(target):
                    if isinstance(n, ast.Name):
                        source.definitions[n.id] = node, last
    return source


def _find(module: str, name: str) -> tuple[str, str | None] | None:
    """Which of our modules defines what `name` means in `module`.

    (module, None) where it is a module itself; None where it is not ours: a local name, a builtin, another package's.
    """
    source = _read(module)
    if name in source.definitions:
        return module, name
    imported = source.imports.get(name)
    if imported is None or imported.package != PACKAGE:
        return None
    return _find(imported.module, imported.name) or (f"{imported.module}.{imported.name}", None)


def _names(node: ast.AST, annotations: bool) -> Iterator[str]:
    """Names that are read below `node`, with or without those in annotations."""
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns") and not annotations:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _names(child, annotations)


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
