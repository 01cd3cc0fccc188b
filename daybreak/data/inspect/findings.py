"""What is wrong with a data set: each finding says why it matters and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from daybreak.data.inspect.captions import CaptionFacts, caption_facts
from daybreak.data.inspect.look import Look

Level = Literal["error", "warning", "note"]
FEWEST, ADVISED = 500, 1000
"""Pairs for fine-tuning: below the first a model learns the pictures by heart; the second is comfortable."""
FROM_SCRATCH = 1_000_000
"""Published recipes train from scratch on millions."""


@dataclass(frozen=True)
class Finding:
    """level: error stops `--strict`. what: one sentence with its figure. examples: keys or texts that show it."""

    level: Level
    what: str
    why: str
    do: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A look, figures over its captions (of the first column that has any) and what was found."""

    look: Look
    facts: CaptionFacts
    tokens: np.ndarray | None
    findings: list[Finding]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(f.level == "error" for f in self.findings)


def examine(look: Look, max_tokens: int, count_tokens: Callable[[list[str]], np.ndarray] | None) -> Report:
    """Figures and findings. `count_tokens` gives each caption's length for the text encoder; else it is estimated."""
    captions = [next(iter(r.captions.values()), "") for r in look.rows]
    facts = caption_facts(captions)
    written = [c for c in captions if c]
    tokens = count_tokens(written) if count_tokens and written else None
    lengths = tokens if tokens is not None else facts.words * 4 / 3
    findings = [*_rows(look), *_pictures(look), *_captions(facts, lengths, max_tokens, tokens is None)]
    order = {"error": 0, "warning": 1, "note": 2}
    return Report(look, facts, tokens, sorted(findings, key=lambda f: order[f.level]))


def _rows(look: Look) -> Iterator[Finding]:
    n = len(look.rows)
    if look.damaged:
        yield Finding(
            "error",
            f"{len(look.damaged)} shards or rows are damaged",
            "Training skips what it cannot read, and stops once too much of it is missing.",
            "Copy the files named again, or run daybreak prepare anew.",
            tuple(f"{where}: {why}" for where, why in look.damaged[:5]),
        )
    if n == 0:
        yield Finding("error", "no picture is usable", "There is nothing to train on.", "See the reasons below.")
    elif n < FEWEST:
        yield Finding(
            "warning",
            f"{n} usable pairs are few",
            f"With fewer than {FEWEST} a model learns the pictures by heart instead of what they have in common.",
            f"Collect {FEWEST} to {ADVISED} varied pairs for fine-tuning; from scratch it takes many more.",
        )
    elif n < FROM_SCRATCH:
        yield Finding(
            "note",
            f"{n:,} usable pairs are {'enough' if n >= ADVISED else 'just enough'} for fine-tuning, few from scratch",
            "Published recipes train on millions; random weights learn a few thousand by heart.",
            "Fine-tune, or train a small model.",
        )
    kinds = Counter(kind for _, kind, _ in look.dropped)
    total = n + sum(kinds.values())
    broken = [f"{key}: {reason}" for key, kind, reason in look.dropped if kind == "broken"]
    if broken:
        share = len(broken) / total
        yield Finding(
            "error" if share > 0.01 else "warning",
            f"{len(broken)} of {total:,} pictures cannot be read ({share:.1%})",
            "They are left out. Many of them mean that a copy or a download went wrong.",
            "Fetch the files named again, or remove them.",
            tuple(broken[:5]),
        )
    for kind, level, why, do in (
        (
            "no caption",
            "warning",
            "They are left out: nothing says what they show.",
            "Write captions, or have them written by daybreak caption (of shards after prepare --uncaptioned).",
        ),
        (
            "unreadable caption",
            "error",
            "They are left out: letters were lost, or the text is in an encoding that cannot be told.",
            "Save the captions named as UTF-8; letters that are lost have to be written again.",
        ),
        (
            "faulty line",
            "error",
            "The line is left out, and with it its picture: a caption cut at a comma would teach something else.",
            "Put captions in quotes and write a quote inside them twice.",
        ),
        ("not named", "warning", "The metadata names no caption for them.", "Add lines for them, or remove them."),
        (
            "not read",
            "warning",
            "They are left out: pictures of these kinds are not read.",
            "Convert them, as it says.",
        ),
        ("hidden", "note", "Files whose names begin with a dot are not looked at.", "Rename what should be read."),
        (
            "ignored",
            "note",
            "They are neither pictures that are used nor their captions.",
            "Look whether a picture or a caption is among them.",
        ),
        ("duplicate", "note", "A file that is there twice is learnt twice as hard.", "Nothing; prepare drops it."),
        (
            "near duplicate",
            "note",
            "Copies in other sizes or qualities are learnt by heart.",
            "Nothing; prepare drops them (--duplicates exact keeps them).",
        ),
        (
            "faulty mask",
            "warning",
            "They are left out: which part of them is to be learnt is not known.",
            "Make each mask anew from its picture, or remove it.",
        ),
        ("too small", "warning", "Enlarged pictures teach blur.", "Find larger ones, or train at a smaller size."),
        ("extreme ratio", "note", "Cropping would cut off over a third.", "Crop them yourself, or raise --max-ratio."),
        ("blank", "note", "There is nothing to be learnt from one colour.", "Remove them."),
    ):
        if kinds[kind]:
            examples = tuple(f"{key}: {reason}" for key, k, reason in look.dropped if k == kind)[:5]
            share = kinds[kind] / total
            serious: Level = "error" if kind == "no caption" and share > 0.5 else level  # type: ignore[assignment]
            yield Finding(serious, f"{kinds[kind]:,} of {total:,} left out as {kind} ({share:.1%})", why, do, examples)


def _pictures(look: Look) -> Iterator[Finding]:
    if not look.rows:
        return
    enlarged = [r for r in look.rows if r.width * r.height < 0.8 * look.size * look.size]
    if len(enlarged) > 0.05 * len(look.rows):
        yield Finding(
            "warning",
            f"{len(enlarged) / len(look.rows):.0%} of the pictures are smaller than {look.size} px and get enlarged",
            "A model learns their blur along with what they show.",
            f"Prepare at a smaller --size, or drop them with --min-side {look.size}.",
            tuple(f"{r.key}: {r.width}x{r.height}" for r in enlarged[:5]),
        )
    fill = Counter(r.bucket for r in look.rows)
    thin = [b for b, n in fill.items() if n < 32]
    if len(thin) > 1 and len(look.rows) >= 100:
        yield Finding(
            "note",
            f"{len(thin)} of {len(fill)} shapes have fewer than 32 pictures",
            "A batch has one shape; what does not fill one is cropped to a neighbouring shape.",
            "Nothing, or --max-ratio 1 for squares only.",
            tuple(f"{b}: {fill[b]}" for b in sorted(thin)[:8]),
        )


def _captions(facts: CaptionFacts, lengths: np.ndarray, max_tokens: int, estimated: bool) -> Iterator[Finding]:
    if facts.n == 0:
        return
    if facts.empty:
        yield Finding(
            "warning",
            f"{facts.empty:,} kept pictures have no caption",
            "Training leaves them out: nothing says what they show.",
            "daybreak caption SHARDS --model ... writes them.",
        )
    long = int((lengths > max_tokens).sum())
    if long:
        yield Finding(
            "warning" if long > 0.01 * facts.n else "note",
            f"{long:,} captions ({long / facts.n:.1%}) are longer than {max_tokens} tokens"
            + (", by an estimate of 4 tokens to 3 words" if estimated else ""),
            "The text encoder does not read what stands beyond its limit.",
            "Shorten them, or use an encoder that reads more (--max-tokens).",
        )
    median = float(np.median(facts.words))
    if median < 5:
        yield Finding(
            "warning",
            f"half of the captions have {median:.0f} words or fewer",
            "In published ablations short captions doubled the FID: what is not said cannot be learnt.",
            "Write what is to be seen, where, and in which style; daybreak caption can.",
        )
    text, share = facts.beginning
    if share > 0.2 and facts.n >= 20:
        yield Finding(
            "warning",
            f'{share:.0%} of the captions begin with "{text}"',
            "The words stop meaning anything, and prompts without them give worse pictures.",
            "Remove the beginning, or vary it.",
        )
    text, share = facts.template
    if share > 0.3 and facts.n >= 20 and set(text) - {"…", " "}:
        yield Finding(
            "warning",
            f'{share:.0%} of the captions are built alike: "{text}"',
            "A template teaches its few slots; other prompts find no echo.",
            "Write captions freely; daybreak caption can.",
        )
    if facts.repeated > 0.1 * facts.n:
        yield Finding(
            "warning",
            f"{facts.repeated:,} captions ({facts.repeated / facts.n:.0%}) repeat another word for word",
            "Different pictures with one caption teach that the caption does not matter.",
            "Say of each picture what sets it apart.",
        )
    if facts.near > 0.1 * facts.n:
        yield Finding(
            "note",
            f"{facts.near:,} captions ({facts.near / facts.n:.0%}) nearly repeat another",
            "The few words that differ carry all there is to be learnt.",
            "Say of each picture what sets it apart.",
            tuple(f"{a} | {b}" for a, b in facts.near_examples),
        )
    for what, why, do, found in (
        (
            "look as if read in a wrong encoding (Ã©, â€™)",
            "The tokenizer reads noise where letters with accents or quotes were.",
            "Repair them where they come from, or with the package ftfy (fix_text).",
            facts.mojibake,
        ),
        (
            "hold markup (tags, &amp;, links)",
            "The model learns the markup as if it were to be seen.",
            "Take it out.",
            facts.markup,
        ),
        (
            "hold control characters",
            "They come from another program, and no prompt will have them.",
            "Take them out.",
            facts.control,
        ),
    ):
        if found:
            yield Finding("warning", f"{len(found):,} captions {what}", why, do, tuple(found[:3]))
    if facts.other_language > 0.05:
        yield Finding(
            "warning",
            f"{facts.other_language:.0%} of the captions do not look English",
            "Most text encoders know English best; mixed languages split what is learnt.",
            "Translate them, or choose a multilingual encoder.",
            tuple(facts.foreign_examples),
        )
