"""Pictures with a file of their caption beside each."""

from __future__ import annotations

from dataclasses import dataclass, field

from daybreak.data.reading.kinds import TEXT_SUFFIXES
from daybreak.data.reading.listing import folded

CAPTION_SUFFIXES = (*TEXT_SUFFIXES, ".json")


@dataclass
class Pairs:
    """of: picture -> the caption files that may be its own, the likeliest first. alone: caption files of no picture."""

    of: dict[str, list[str]] = field(default_factory=dict)
    alone: list[str] = field(default_factory=list)


def pair(pictures: list[str], captions: list[str]) -> Pairs:
    """Finds the caption file of each picture, by their paths.

    p.png goes with p.png.txt before p.txt, and a .txt before .caption, .cap, .text and .json. Names are compared as
    they are, and where that finds none, regardless of their Unicode form and case. Two pictures of one name (p.jpg and
    p.png) share their caption.
    """
    exact = set(captions)
    loose: dict[str, list[str]] = {}
    for name in captions:
        loose.setdefault(folded(name), []).append(name)
    pairs = Pairs()
    taken: set[str] = set()
    unmatched = []
    for picture in pictures:
        found = [n for n in _candidates(picture) if n in exact]
        pairs.of[picture] = found
        taken.update(found)
        if not found:
            unmatched.append(picture)
    for picture in unmatched:
        found = [n for c in _candidates(picture) for n in loose.get(folded(c), []) if n not in taken]
        pairs.of[picture] = list(dict.fromkeys(found))
    taken.update(n for found in pairs.of.values() for n in found)
    pairs.alone = [n for n in captions if n not in taken]
    return pairs


def _candidates(picture: str) -> list[str]:
    stem = picture.rpartition(".")[0]
    return [base + suffix for suffix in CAPTION_SUFFIXES for base in (picture, stem)]
