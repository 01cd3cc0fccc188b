"""The day's check: a hundred pictures to look at, and FID against where the day began (tutorial recipe)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from daybreak.evaluate.measures import PICTURES_EACH, PROMPTS, Measure
from daybreak.evaluate.mosaic import Tile, save_mosaic

TOLERANCE = 0.10
"""FID may exceed the baseline's by this share."""


def diverse(prompts: Sequence[str], count: int = PROMPTS) -> list[str]:
    """`count` prompts that share few words: each the furthest from those before it (Jaccard distance of words)."""
    known = list(dict.fromkeys(prompts))
    words = [frozenset(p.lower().split()) for p in known]
    chosen = [0] if known else []
    nearest = [_distance(w, words[0]) for w in words]
    while len(chosen) < min(count, len(known)):
        i = max((k for k in range(len(known)) if k not in chosen), key=lambda k: nearest[k])
        chosen.append(i)
        nearest = [min(d, _distance(w, words[i])) for d, w in zip(nearest, words, strict=True)]
    return [known[i] for i in chosen]


def _distance(a: frozenset[str], b: frozenset[str]) -> float:
    return 1 - len(a & b) / max(1, len(a | b))


def verdict(fid: float, baseline: float, baseline_name: str, pictures: int, reference: int) -> Measure:
    """FID over the baseline's; it passes at no more than 1.1."""
    ratio = fid / max(baseline, 1e-12)
    result = Measure("day_check", ratio, pictures, reference=reference)
    passed = ratio <= 1 + TOLERANCE
    result.details = {
        "verdict": f"{'within' if passed else 'not within'} 10 % of the baseline",
        "passed": passed,
        "FID": fid,
        "baseline": baseline_name,
        "FID of the baseline": baseline,
    }
    return result


def save_contact_sheet(paths: Sequence[Path], prompts: Sequence[str], out: Path) -> None:
    """contact_sheet.png: ten pictures a row; `prompts` has one for each picture."""
    save_mosaic(contact_tiles(paths, prompts), out / "contact_sheet.png", columns=PICTURES_EACH, side=120)


def contact_tiles(paths: Sequence[Path], prompts: Sequence[str]) -> list[Tile]:
    """A tile for each picture; the first of a row says its prompt."""
    pairs = enumerate(zip(paths, prompts, strict=True))
    return [Tile(path, prompt if i % PICTURES_EACH == 0 else "") for i, (path, prompt) in pairs]
