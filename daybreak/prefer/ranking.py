"""Pairs from a judge: several pictures of each prompt, of which the best and the worst make a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daybreak.data.batch import to_uint8
from daybreak.prefer.judges import Judge
from daybreak.prefer.pairs import Drawn
from daybreak.prefer.prompts import Prompts

Draw = Callable[[Sequence[str], Sequence[int], int], Tensor]
"""Captions, as the network is given them, the numbers of their noise, and its seed, to pictures [B, 3, H, W] in
[-1, 1]."""
WriteOut = Callable[[Sequence[str], Sequence[int]], list[str]]
"""Prompts and their numbers to captions."""
PROMPTS_AT_ONCE = 64
"""Whose pictures exist at a time."""


@dataclass
class Ranking:
    """judge: ranks `pictures` pictures of each of `count` prompts a round. A prompt whose pictures are all as good
    makes no pair."""

    judge: Judge
    prompts: Prompts
    count: int
    pictures: int
    seed: int

    def draw(self, index: int, draw: Draw, write_out: WriteOut) -> Iterator[Drawn]:
        """The pairs of round `index`."""
        asked = self.prompts.of_round(index, self.count)
        for start in range(0, len(asked), PROMPTS_AT_ONCE):
            numbers, prompts = zip(*asked[start : start + PROMPTS_AT_ONCE], strict=True)
            captions = write_out(prompts, numbers)
            each = self.pictures
            noises = [n * each + k for n in numbers for k in range(each)]
            pictures = draw([c for c in captions for _ in range(each)], noises, self.seed)
            scores = judged(self.judge, pictures, [p for p in prompts for _ in range(each)])
            for i, (prompt, caption) in enumerate(zip(prompts, captions, strict=True)):
                own, those = pictures[i * each : (i + 1) * each], scores[i * each : (i + 1) * each]
                best, worst = int(those.argmax()), int(those.argmin())
                if those[best] > those[worst]:
                    told = float(those[best]), float(those[worst])
                    yield Drawn(caption, prompt, own[best], own[worst], told)


def judged(judge: Judge, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
    """[B] scores of pictures [B, 3, H, W] in [-1, 1]."""
    images = torch.from_numpy(to_uint8(pictures)).permute(0, 3, 1, 2).contiguous()
    return torch.tensor(judge.scores(images, prompts), dtype=torch.float64)
