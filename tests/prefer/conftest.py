"""No test here meets a network that its user has in a cache."""

import pytest

from daybreak.hub_models import HUB_MODELS


@pytest.fixture(autouse=True)
def no_networks(tmp_path, monkeypatch):
    monkeypatch.setenv("DAYBREAK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(HUB_MODELS, "clip", ("nobody/no-such-clip", "1.7 GB", "CLIP of CLIPScore"))
