"""Who judges while preferences are learnt: the judge that is learnt from, and others that are not."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from daybreak.config import ConfigError
from daybreak.evaluate.request import parse_weights
from daybreak.hub_models import HUB_MODELS
from daybreak.prefer.judges import ClipScoreJudge, Judge, open_judge
from daybreak.prefer.settings import PreferSettings

CLIPSCORE = "clipscore"


@dataclass
class Panel:
    """judges: by name, "judge", which is learnt from, "check", another one, and "clipscore" where it is neither and
    the data are pictures; any may be absent. titles: what the report calls them. missing: who else would judge, and why
    not."""

    judges: dict[str, Judge] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def open_panel(settings: PreferSettings, on_scenes: bool, device: torch.device) -> Panel:
    """The judges that `settings` name; on_scenes: whether the model draws the embedded world.

    Where no --check is given it is the judge of scenes there, and CLIPScore elsewhere, each where it is not the judge
    itself. What nobody asked for is not downloaded. ConfigError for one that was asked for and cannot be had.
    """
    weights, panel = parse_weights(list(settings.weights)), Panel()
    check = settings.check or ("scenes" if on_scenes and settings.judge != "scenes" else None)
    for name, who in (("judge", settings.judge), ("check", check)):
        if who is not None:
            panel.judges[name] = open_judge(who, weights, device)
            panel.titles[name] = f"judge {who}" if name == "judge" else f"other judge, {who}"
    if on_scenes or CLIPSCORE in (settings.judge, check):
        return panel
    try:
        clip = ClipScoreJudge(weights.get("clip"), device, fetch="clip" in weights)
    except ConfigError:
        if "clip" in weights:
            raise
        model, size, _ = HUB_MODELS["clip"]
        panel.missing.append(
            f"CLIPScore was not measured: {model} ({size}) is not on this machine; --check clipscore downloads it, and "
            "--weights clip=FOLDER names a copy"
        )
        return panel
    name = "check" if check is None else CLIPSCORE
    panel.judges[name] = clip
    panel.titles[name] = "other judge, clipscore" if check is None else "CLIPScore"
    return panel
