"""Which files of a WebDataset tar make up a sample, and what each is in it; told from all names of the tar.

WebDataset's own rule, the name up to the first dot, merges pictures whose names have dots (IMG_2024.05.12_001.jpg).
Here the stem is the name without its last extension, and a stem that adds to another one (0001.mask to 0001) belongs
to that sample, unless it has a picture and a caption of its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

from daybreak.data.pictures import PICTURE_SUFFIXES
from daybreak.data.reading.kinds import TEXT_SUFFIXES, UNREAD, suffix
from daybreak.data.reading.listing import folded

TAR_PICTURES = (*PICTURE_SUFFIXES, ".img", ".image")
TAR_TEXTS = (*TEXT_SUFFIXES, ".json")
PLAIN_WORDS = ("image", "img", "rgb", "picture", "photo", "original", "input")
"""Words before the suffix that say that this is the picture, where none is without such a word."""
_SIDE = """
mask masks depth seg segmentation semantic instance alpha matte trimap normal normals canny edge edges hed scribble
lineart pose openpose skeleton control conditioning condition cond hint disparity flow label labels annotation
heatmap saliency thumb thumbnail preview small lowres blur
"""
SIDE_WORDS = frozenset(_SIDE.split())
"""Words that say that a picture belongs to another one: its mask, depth, edges, thumbnail."""


@dataclass
class Sample:
    """key: path without extensions. members: (number in the tar, extension in small letters, name)."""

    key: str
    members: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def apart(self) -> tuple[str, str] | None:
        """The first two of its members that do not lie beside each other, as readers of tars need it."""
        pairs = pairwise(self.members)
        return next(((before[2], after[2]) for before, after in pairs if after[0] != before[0] + 1), None)


@dataclass(frozen=True)
class Choice:
    """What a sample's members are, by number: its picture (or the problem why there is none), its captions as (number,
    extension), the likeliest first; left: (name, why) of the others."""

    picture: int | None
    problem: str | None
    captions: list[tuple[int, str]]
    left: list[tuple[str, str]]


def find_samples(names: list[str]) -> list[Sample]:
    """The samples of a tar's files, in the order in which they begin; every file is in one of them."""
    stems = [_stem(name) for name in names]
    holds: defaultdict[str, set[str]] = defaultdict(set)
    for name, stem in zip(names, stems, strict=True):
        holds[folded(stem)].add(_role(name))
    merged = _recurring(holds)
    samples: dict[str, Sample] = {}
    for number, (name, stem) in enumerate(zip(names, stems, strict=True)):
        length = _key_length(stem, holds, merged)
        key = stem[:length]
        sample = samples.setdefault(folded(key), Sample(key))
        if sample.key != key and sample.members[-1][0] != number - 1:  # two samples whose names differ in case alone
            sample = samples.setdefault(f"{key}/", Sample(key))  # as no other key is called
        sample.members.append((number, name[len(key) + 1 :].lower(), name))
    return list(samples.values())


def choose(sample: Sample, image_key: str | None, captions: list[str]) -> Choice:
    """Which member is the picture and which hold captions. captions: extensions that were asked for, else the usual."""
    pictures = [(n, ext, name) for n, ext, name in sample.members if f".{ext.rpartition('.')[2]}" in TAR_PICTURES]
    picture, problem = _picture(sample, pictures, image_key)
    texts = _texts(sample, captions)
    left = []
    for n, ext, name in sample.members:
        if n == picture or any(n == t for t, _ in texts):
            continue
        if any(n == p for p, _, _ in pictures):
            if picture is not None:
                left.append((name, f"a further picture of its sample: --image-key {ext} takes it"))
        else:
            left.append((name, UNREAD.get(suffix(name), "neither its sample's picture nor its caption")))
    return Choice(picture, problem, texts, left)


def _picture(
    sample: Sample, pictures: list[tuple[int, str, str]], image_key: str | None
) -> tuple[int | None, str | None]:
    extensions = ", ".join(ext for _, ext, _ in sample.members)
    if image_key is not None:
        key = image_key.lower().lstrip(".")
        asked = [p for p in pictures if p[1] == key] or [p for p in pictures if p[1].rpartition(".")[0] == key]
        if len(asked) == 1:
            return asked[0][0], None
        return None, f"the sample has no picture {image_key}; it has {extensions}"
    if not pictures:
        return None, f"the sample has no picture; it has {extensions}"
    plain = [p for p in pictures if "." not in p[1]]
    if not plain:
        words = {p[0]: p[1].rpartition(".")[0] for p in pictures}
        plain = [p for p in pictures if words[p[0]] in PLAIN_WORDS]
        if not plain:
            plain = [p for p in pictures if not SIDE_WORDS & set(words[p[0]].replace("-", "_").split("_"))]
            if not plain and len(pictures) == 1:
                plain = pictures
    if len(plain) == 1:
        return plain[0][0], None
    several = ", ".join(p[1] for p in (plain or pictures))
    first = (plain or pictures)[0][1]
    return None, f"the sample has several pictures ({several}): say which is it, as in --image-key {first}"


def _texts(sample: Sample, captions: list[str]) -> list[tuple[int, str]]:
    """(number, extension) of the members with captions: a name asked for, a plain text, else the only text there is."""
    if captions:
        return [(n, e) for n, e, _ in sample.members if e.partition(".")[0] in captions or e == "json"]
    texts = [(n, e) for n, e, _ in sample.members if f".{e.rpartition('.')[2]}" in TAR_TEXTS]
    plain = [t for t in texts if "." not in t[1]] or (texts if len(texts) == 1 else [])
    return sorted(plain, key=lambda t: TAR_TEXTS.index(f".{t[1].rpartition('.')[2]}"))


def _stem(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    stem, dot, _ = last.rpartition(".")
    return folder + slash + (stem if dot and stem else last)


def _role(name: str) -> str:
    end = suffix(name)
    return "picture" if end in TAR_PICTURES or end in UNREAD else "caption" if end in TAR_TEXTS else "other"


def _shorter(stem: str) -> list[int]:
    """The lengths of the stem's beginnings that end before a dot of its last name, the longest first."""
    start = stem.rpartition("/")[0]
    least = len(start) + 2 if start else 1
    return [i for i in range(len(stem) - 1, least - 1, -1) if stem[i] == "."]


def _key_length(stem: str, holds: dict[str, set[str]], merged: set[str]) -> int:
    """How much of a stem is its sample's key."""
    if not {"picture", "caption"} <= holds[folded(stem)]:
        for length in _shorter(stem):
            if (before := folded(stem[:length])) in holds:
                return length if {"picture", "caption"} <= holds[before] else _key_length(stem[:length], holds, merged)
            if before in merged:
                return length
    return len(stem)


def _recurring(holds: dict[str, set[str]]) -> set[str]:
    """Beginnings whose samples are all in pieces with a word each (0001.img.jpg, 0001.cap.txt), and many alike."""
    pieces: defaultdict[str, dict[str, set[str]]] = defaultdict(dict)
    for stem, roles in holds.items():
        before, dot, word = stem.rpartition(".")
        if dot and "/" not in word and before not in holds and not {"picture", "caption"} <= roles:
            pieces[before][word] = roles
    alike: defaultdict[frozenset[str], int] = defaultdict(int)
    for words in pieces.values():
        alike[frozenset(words)] += 1
    return {
        before
        for before, words in pieces.items()
        if len(words) > 1
        and {"picture", "caption"} <= set().union(*words.values())
        and (alike[frozenset(words)] > 1 or all(w.isalpha() for w in words))
    }
