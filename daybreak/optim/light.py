"""Optimisers without torch.compile's import."""

from __future__ import annotations

from torch.optim import Optimizer


def without_dynamo() -> None:
    """Keeps torch's optimisers from importing torch._dynamo when one is made, which takes a second.

    torch hides their methods from the compiler by a wrapper that imports the compiler at its first call, to ask it for
    a version of the method that is hidden; where nothing is compiled, that version is the method. Nothing is done where
    torch has no such wrapper (2.11 to 2.13 have it; tests/optim/test_light.py).
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            setattr(method, "__dynamo_disable", method)
