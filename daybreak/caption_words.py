"""The words of a run's captions, in RUN/captions.json: so that a page can say which words a model never met.

Also some of the captions themselves, as examples of what may be asked for. What is exported holds neither.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from daybreak.files import write_whole

FILE = "captions.json"
CAPTIONS = 100_000
"""The most captions that are looked at."""
WORDS = 200_000
"""Of captions with more different words than this none are kept: most of those that are missing would only be rare."""
EXAMPLES, LONGEST_EXAMPLE = 48, 120
"""Captions kept as examples, and their longest, in letters."""
MOST_UNSEEN = 10
"""Words of a prompt that are told."""
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts that put no spaces between words: of them nothing is said."""


@dataclass(frozen=True)
class CaptionWords:
    """examples: captions. count: how many were looked at. words: all their words.

    words is None where the model has learnt from other captions too, so that a word that is missing says nothing.
    """

    examples: tuple[str, ...] = ()
    count: int = 0
    words: frozenset[str] | None = None

    def unseen(self, prompt: str) -> list[tuple[str, str | None]]:
        """The words of a prompt that no caption has, in their order, each with the word that it may stand for."""
        if self.words is None:
            return []
        missing = dict.fromkeys(w for w in words_of(prompt) if w not in self.words and not w.isdigit())
        return [(word, _close(word, self.words)) for word in list(missing)[:MOST_UNSEEN]]


def _close(word: str, words: frozenset[str]) -> str | None:
    """The word that is most like it, of those with its first letter and nearly its length: others cost too much."""
    near = [w for w in _by_initial(words)[word[0]] if abs(len(w) - len(word)) <= 2]
    return next(iter(difflib.get_close_matches(word, near, 1, 0.75)), None)


@cache
def _by_initial(words: frozenset[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for word in sorted(words):
        found[word[0]].append(word)
    return found


def words_of(text: str) -> list[str]:
    """Its words in lower case: letters and digits, and what holds them together, as in "don't"."""
    return [w for w in re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()) if not UNSPACED.search(w)]


def look_at(captions: Sequence[str], knows_others: bool = False) -> CaptionWords:
    """What is kept of `captions`. knows_others: the model has learnt from other captions too."""
    parts = {part for caption in captions for part in caption.split()}  # no word reaches over a space
    found = frozenset(word for part in parts for word in words_of(part))
    short = list(dict.fromkeys(c for c in captions if 0 < len(c) <= LONGEST_EXAMPLE and "\n" not in c))
    chosen = np.random.default_rng(0).permutation(len(short))[:EXAMPLES]
    words = None if knows_others or len(found) > WORDS else found
    return CaptionWords(tuple(short[i] for i in chosen), len(captions), words)


def write_words(run: Path, found: CaptionWords) -> None:
    """RUN/captions.json."""
    words = None if found.words is None else " ".join(sorted(found.words))
    write_whole(run / FILE, json.dumps(asdict(found) | {"words": words}, ensure_ascii=False, indent=1))


def read_words(run: Path) -> CaptionWords:
    """Of a run's folder; empty where it holds none, or nothing that can be read: then nothing is said."""
    try:
        raw = json.loads((run / FILE).read_text(encoding="utf-8"))
        words = None if raw["words"] is None else frozenset(raw["words"].split(" "))
        return CaptionWords(tuple(raw["examples"]), raw["count"], words)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return CaptionWords()
