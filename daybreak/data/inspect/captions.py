"""What captions look like as a whole: how long, how alike, in which language."""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

BEGINNING_WORDS = 3
SHINGLE = 3
PERMUTATIONS, BANDS = 32, 8
"""MinHash: captions that share 80 % of their word triples are found with a probability of 99 %."""
NEAR = 0.8
_ENGLISH = """
a an the of and in on at with is are to for from by as it its this that there his her their over under near into man
woman person people photo picture image black white red green blue yellow
"""
_OTHERS = """
der die das und ein eine mit auf ist von im dem den einer einem le la les une des avec dans sur est du et el los las una
con en del y sobre il lo gli di che della nel un uma com o os no na het een van met op
"""
ENGLISH = frozenset(_ENGLISH.split())
OTHERS = frozenset(_OTHERS.split()) - ENGLISH
"""Function words of German, French, Spanish, Italian, Portuguese and Dutch."""

# UTF-8 read as Windows-1252 or Latin-1: a lead byte (Â to ô) followed by what a continuation byte becomes in these.
_CONTINUED = "[\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
MOJIBAKE = re.compile(f"[ÂÃÄÅÎÏÐÑ×Ø]{_CONTINUED}|[âãäåæçèéêëìíî]{_CONTINUED}{{2}}|ð{_CONTINUED}{{3}}")
MARKUP = re.compile(
    r"</?[a-zA-Z][a-zA-Z0-9]*(\s[^<>]*)?/?>|&(#\d+|#x[0-9a-fA-F]+|[a-zA-Z]{2,8});|https?://\S|\[/?(url|img|b|i)\b"
    r"|\]\(\S+\)|\*\*\S|\\u[0-9a-fA-F]{4}"
)
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u2060\ufeff]")


@dataclass(frozen=True)
class CaptionFacts:
    """Figures over n captions, those that are empty left out.

    words: [n] lengths. beginning: the most frequent first three words and their share. templates: (text with its
    numbers and names taken out, share) of the most frequent. repeated: captions that stand elsewhere word for word;
    near: pairs that nearly do, as examples. other_language: share that is unlikely to be English. mojibake, markup,
    control: captions that were read in a wrong encoding, hold tags or links, or characters that are invisible.
    """

    n: int
    empty: int
    words: np.ndarray
    beginning: tuple[str, float]
    template: tuple[str, float]
    repeated: int
    near: int
    near_examples: list[tuple[str, str]]
    other_language: float
    foreign_examples: list[str]
    vocabulary: int
    mojibake: list[str]
    markup: list[str]
    control: list[str]


def caption_facts(captions: list[str]) -> CaptionFacts:
    """Figures over captions."""
    texts = [c for c in captions if c.strip()]
    split = [_words(t) for t in texts]
    beginnings = Counter(" ".join(w[:BEGINNING_WORDS]) for w in split if len(w) > BEGINNING_WORDS)
    templates = Counter(_template(w) for w in split if len(w) > 2)
    exact = Counter(texts)
    foreign = [t for t, w in zip(texts, split, strict=True) if _foreign(t, w)]
    near, examples = _near_pairs(list(dict.fromkeys(texts)))
    n = max(1, len(texts))
    return CaptionFacts(
        n=len(texts),
        empty=len(captions) - len(texts),
        words=np.array([len(w) for w in split] or [0]),
        beginning=_share(beginnings, n),
        template=_share(templates, n),
        repeated=sum(c - 1 for c in exact.values()),
        near=near,
        near_examples=examples,
        other_language=len(foreign) / n,
        foreign_examples=foreign[:3],
        vocabulary=len({w for words in split for w in words}),
        mojibake=[t for t in texts if MOJIBAKE.search(t)],
        markup=[t for t in texts if MARKUP.search(t)],
        control=[t for t in texts if CONTROL.search(t)],
    )


def _share(counts: Counter[str], n: int) -> tuple[str, float]:
    if not counts:
        return "", 0.0
    text, count = counts.most_common(1)[0]
    return text, count / n


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _template(words: list[str]) -> str:
    """A caption with all but its commonest words taken out: what remains alike was not written by looking."""
    return " ".join(w if w in ENGLISH else "…" for w in words)


def _foreign(text: str, words: list[str]) -> bool:
    """Mostly in another script, or with more of other languages' function words than of English's."""
    letters = [c for c in text if c.isalpha()]
    if letters and sum(not c.isascii() for c in letters) > 0.3 * len(letters):
        return True
    others = sum(w in OTHERS for w in words)
    return others >= 2 and others > sum(w in ENGLISH for w in words)


def _near_pairs(texts: list[str]) -> tuple[int, list[tuple[str, str]]]:
    """How many different captions nearly repeat an earlier one, and a few of them.

    MinHash with banding (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3).
    """
    rng = np.random.default_rng(0)
    prime = (1 << 31) - 1
    a, b = rng.integers(1, prime, PERMUTATIONS), rng.integers(0, prime, PERMUTATIONS)
    buckets: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    shingles: list[frozenset[int]] = []
    count = 0
    examples: list[tuple[str, str]] = []
    for i, text in enumerate(texts):
        words = _words(text)
        grams = {" ".join(words[j : j + SHINGLE]) for j in range(max(1, len(words) - SHINGLE + 1))}
        hashes = frozenset(zlib.crc32(g.encode()) % prime for g in grams)
        shingles.append(hashes)
        if len(words) < 5:
            continue  # short captions are often alike
        signature = ((np.fromiter(hashes, dtype=np.int64)[:, None] * a + b) % prime).min(axis=0)
        keys = [(k, band.tobytes()) for k, band in enumerate(signature.reshape(BANDS, -1))]
        candidates = {c for key in keys for c in buckets[key][:20]}
        same = next((c for c in sorted(candidates) if _jaccard(shingles[c], hashes) >= NEAR), None)
        if same is not None:
            count += 1
            if len(examples) < 3:
                examples.append((texts[same], text))
        for key in keys:
            buckets[key].append(i)
    return count, examples


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / len(a | b)
