"""torch's compiler takes a second to import; commands that compile nothing do without it."""

from __future__ import annotations

from typing import Any


def keep_away(of: Any, *names: str) -> None:
    """Keeps these methods of a class of torch's from importing the compiler when they are called.

    torch hides them from it by a wrapper that imports it at the first call, to ask for a version of the method that is
    hidden; where nothing is compiled, that version is the method. Nothing is done where torch has no such wrapper
    (2.11 to 2.13 have it; tests/test_compiler.py).
    """
    for name in names:
        method = getattr(getattr(of, name), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            setattr(method, "__dynamo_disable", method)
