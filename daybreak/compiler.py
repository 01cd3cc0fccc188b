"""torch's compiler takes a second to import; commands that compile nothing do without it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

MARK = "__dynamo_disable"
"""Where torch keeps, on a function, its version that is hidden from the compiler."""


def keep_away(of: Any, *names: str) -> None:
    """Keeps these methods of a class of torch's from importing the compiler when they are called.

    torch hides them from it by a wrapper that imports it at the first call, to ask for a version of the method that is
    hidden; where nothing is compiled, that version is the method. Nothing is done where torch has no such wrapper
    (2.11 to 2.13 have it; tests/test_compiler.py).
    """
    for name in names:
        method = getattr(getattr(of, name), "__wrapped__", None)
        if method is not None and not hasattr(method, MARK):
            setattr(method, MARK, method)


@contextmanager
def kept_away() -> Generator[None]:
    """In here none of torch's functions imports the compiler: the same for all that are wrapped so, and then undone.

    The kernels of the meta device are: each is a function of its own in Python, and so they are searched for (0.05 s).
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    from torch._compile import _disable_dynamo

    (wrapper,) = (c for c in _disable_dynamo.__code__.co_consts if isinstance(c, CodeType) and c.co_name == "inner")
    place = wrapper.co_freevars.index("fn")
    wrapped: list[Any] = [
        f.__closure__[place].cell_contents
        for f in gc.get_objects()
        if type(f) is FunctionType and f.__code__ is wrapper and f.__closure__
    ]
    hidden = [function for function in wrapped if MARK not in function.__dict__]
    for function in hidden:
        setattr(function, MARK, function)
    try:
        yield
    finally:
        for function in hidden:
            if function.__dict__.get(MARK) is function:
                delattr(function, MARK)
