"""What is wrong with the user's pictures, in view of the base."""

from __future__ import annotations

import numpy as np

from daybreak.data.inspect.findings import Finding, Report, examine
from daybreak.finetune.families import Family
from daybreak.finetune.pictures import Pictures
from daybreak.finetune.shapes import Shapes

SHOWN = 5
"""Examples of a finding."""


def findings(pictures: Pictures, family: Family, shapes: Shapes) -> Report:
    """What `daybreak inspect` would say of them for fine-tuning; captions are counted with the base's own tokenizer."""
    tokenizer = getattr(family.pipeline, family.tokenizers[0])
    limit = family.max_tokens()
    exact, near = pictures.copies
    report = examine(
        pictures.look, limit, lambda texts: np.array([len(i) for i in tokenizer(texts, truncation=False)["input_ids"]])
    )
    elsewhere = ("shapes have fewer", *(() if shapes.upscale else ("get enlarged",)))  # of what daybreak prepare does
    report.findings[:] = [f for f in report.findings if not any(words in f.what for words in elsewhere)]
    budget = 0.8 * shapes.side**2
    small = [row for row in pictures.look.rows if row.width * row.height < budget]
    if len(small) > 0.05 * len(pictures) and not shapes.upscale:
        report.findings.append(
            Finding(
                "warning",
                f"{len(small) / len(pictures):.0%} of the pictures are smaller than {shapes.side}x{shapes.side} px",
                "They are not scaled up: the base learns from fewer pixels than it was made for.",
                "Find larger ones, or a smaller --resolution; --upscale has them scaled up, and their blur learnt.",
                tuple(f"{row.key}: {row.width}x{row.height}" for row in small[:SHOWN]),
            )
        )
    if exact + near > 0:
        report.findings.append(
            Finding(
                "warning",
                f"{exact + near} pictures are there twice ({exact} the same file, {near} the same picture saved anew)",
                "A copy is learnt twice as hard. Held-out pictures share none with those of training.",
                "Remove them; daybreak prepare leaves them out.",
            )
        )
    several = sum(len(of) > 1 for of in pictures.choices)
    if several:
        most = max(len(of) for of in pictures.choices)
        report.findings.append(
            Finding(
                "note",
                f"{several} pictures have several captions, up to {most}",
                "Each time a picture is seen one of them is drawn by its weight; figures here are of the first.",
                "Nothing.",
            )
        )
    if 0 < pictures.masked < len(pictures):
        report.findings.append(
            Finding(
                "note",
                f"{len(pictures) - pictures.masked} of {len(pictures)} pictures have no mask",
                "Every part of them counts fully.",
                "Nothing, or add masks for them.",
            )
        )
    if cut := cut_captions(pictures.captions, tokenizer, limit):
        report.findings.append(
            Finding(
                "warning",
                f"{len(cut)} captions are cut at {limit} tokens",
                "The text encoder does not read what stands beyond its limit; what it loses stands below.",
                "Shorten them, or say the most important first.",
                tuple(f"… {text}" for text in cut[:SHOWN]),
            )
        )
    return report


def cut_captions(captions: list[str], tokenizer: object, limit: int) -> list[str]:
    """The ends that the text encoder does not read, of those captions that are too long."""
    cut = []
    for caption in dict.fromkeys(captions):
        ids = tokenizer(caption, truncation=False)["input_ids"]  # type: ignore[operator]
        if len(ids) > limit:
            # The last place that is read belongs to the end mark.
            cut.append(tokenizer.decode(ids[limit - 1 : -1]).strip())  # type: ignore[attr-defined]
    return cut
