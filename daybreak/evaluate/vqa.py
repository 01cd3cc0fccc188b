"""Questions about pictures, answered by a vision-language model and scored as DPG-Bench does (arXiv 2403.05135)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.evaluate.measures import Measure
from daybreak.evaluate.metrics import bootstrap_interval
from daybreak.evaluate.mosaic import Tile, save_mosaic
from daybreak.evaluate.pictures import PictureFolder, read_picture
from daybreak.evaluate.questions import Question
from daybreak.hub_models import HUB_MODELS, load_pretrained
from daybreak.parallel import Ranks

PER_PROMPT = 4
SHOWN = 24


def credited(questions: list[Question], answers: dict[int, bool]) -> dict[int, bool]:
    """Which questions count as answered with yes: those of which all parents, theirs included, are."""
    result: dict[int, bool] = {}
    for q in sorted(questions, key=lambda q: q.number):
        result[q.number] = answers[q.number] and all(result.get(p, answers[p]) for p in q.parents)
    return result


class Answerer:
    """A transformers vision-language model that says yes or no: whichever its next word is likelier to be."""

    def __init__(self, weights: str | None, device: torch.device) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.source = weights or HUB_MODELS["vqa"][0]
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._model = load_pretrained(AutoModelForImageTextToText, "vqa", weights, dtype=dtype).to(device)
        self._processor: Any = AutoProcessor.from_pretrained(self.source)
        self._yes, self._no = self._first_tokens("yes"), self._first_tokens("no")
        if not self._yes or not self._no or self._yes & self._no:
            raise ConfigError(f"--weights vqa={self.source}: its tokenizer has no words of their own for yes and no")

    def _first_tokens(self, word: str) -> set[int]:
        tokenizer = self._processor.tokenizer
        forms = (word, word.capitalize(), f" {word}", f" {word.capitalize()}")
        firsts = {ids[0] for f in forms if (ids := tokenizer.encode(f, add_special_tokens=False))}
        # A lone space, or what stands for unknown words, would be the first token of everything.
        return {i for i in firsts if i != tokenizer.unk_token_id and tokenizer.decode([i]).strip()}

    @torch.no_grad()
    def says_yes(self, image: Image.Image, question: str) -> bool:
        """The answer to one question about an RGB picture."""
        content = [
            {"type": "image", "image": image},
            {"type": "text", "text": f"{question} Answer with yes or no."},
        ]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._model.device, dtype=self._model.dtype)
        logits = self._model(**inputs).logits[0, -1].float()
        return bool(logits[list(self._yes)].logsumexp(0) > logits[list(self._no)].logsumexp(0))


def measure_vqa(
    pictures: PictureFolder, questions: dict[str, list[Question]], answerer: Answerer, ranks: Ranks, out: Path
) -> Measure:
    """Mean over pictures of the share of questions answered with yes. Captions say which questions are a picture's."""
    items = [i for i in pictures.items if i.caption in questions]
    if not items:
        raise ConfigError(f"vqa: no picture of {pictures.path} has one of the prompts of the questions as its caption")
    judged: list[tuple[str, str, dict[int, bool]]] = []
    for item in ranks.share(items):
        try:
            image = read_picture(item.path)
        except ValueError as e:
            pictures.skipped.append(Skipped(str(item.path), str(e)))
            continue
        asked = questions[item.caption]
        answers = {q.number: answerer.says_yes(image, q.text) for q in asked}
        judged.append((str(item.path), item.caption, credited(asked, answers)))
    everyones = [j for part in ranks.gather(judged) for j in part]
    if not everyones:
        raise ConfigError(f"vqa: none of {len(items)} pictures of {pictures.path} is readable")
    shares = torch.tensor([sum(c.values()) / len(c) for _, _, c in everyones], dtype=torch.float64)
    by_category: dict[str, list[bool]] = {}
    for _, caption, credit in everyones:
        for q in questions[caption]:
            by_category.setdefault(q.category, []).append(credit[q.number])
    interval = bootstrap_interval(shares, 1000, torch.Generator().manual_seed(0))
    result = Measure("vqa", shares.mean().item(), len(everyones), interval)
    result.parts = {category: sum(hits) / len(hits) for category, hits in sorted(by_category.items())}
    result.details = {"answered by": answerer.source, "prompts": len({c for _, c, _ in everyones})}
    if ranks.first:
        worst = shares.argsort(stable=True)[:SHOWN].tolist()
        save_mosaic(
            [_tile(path, questions[caption], credit) for path, caption, credit in (everyones[i] for i in worst)],
            out / "vqa_lowest.png",
        )
    result.images = {
        "vqa_lowest.png": "The pictures with the fewest questions answered with yes; below: those that were not"
    }
    return result


def _tile(path: str, questions: list[Question], credit: dict[int, bool]) -> Tile:
    missed = [q.text for q in questions if not credit[q.number]]
    return Tile(Path(path), "; ".join(missed) or "every question", good=not missed)
