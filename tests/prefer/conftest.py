"""No test here meets a network that its user has in a cache."""

import pytest

from daybreak.files import cache_folder
from daybreak.hub_models import HUB_MODELS


@pytest.fixture(autouse=True)
def no_networks(tmp_path, monkeypatch):
    kernels = cache_folder() / "kernels"  # which are compiled once for all tests, not in each process anew
    kernels.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "kernels").symlink_to(kernels)
    monkeypatch.setenv("DAYBREAK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(HUB_MODELS, "clip", ("nobody/no-such-clip", "1.7 GB", "CLIP of CLIPScore"))
