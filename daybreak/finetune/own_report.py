"""What fine-tuning one of our own runs gained and forgot: the probes and the report of report.py, before and after."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from daybreak.config import Config
from daybreak.data.listing import list_items
from daybreak.data.scenes.source import ScenesSource
from daybreak.diffusion import flow
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.judge import LEAST_PX
from daybreak.evaluate.scoring import SUMMARY, judge_scenes
from daybreak.evaluate.subjects import RunDrawer
from daybreak.finetune.cache import to_tensor
from daybreak.finetune.opening import write_general
from daybreak.finetune.pictures import open_pictures
from daybreak.finetune.probes import GENERAL_PROMPTS, LEVELS, MOST
from daybreak.finetune.report import judge, show_general, write_report
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.shapes import Shapes
from daybreak.model.transformer import Transformer
from daybreak.parallel import Ranks
from daybreak.sampling.generate import generate, noise_of

NOISE_SEED = 4321


@dataclass(frozen=True)
class OwnProbe:
    """Pictures [N, 3, H, W] in [-1, 1] and their captions; every model sees the same noise on them."""

    pictures: Tensor
    captions: list[str]


class OwnModel:
    """A model of ours as it is measured: averaged weights, the sampling settings of its config, one device."""

    def __init__(
        self, transformer: Transformer, text_encoder: TextEncoder, config: Config, device: torch.device
    ) -> None:
        self.transformer, self.text_encoder = transformer.to(device).eval(), text_encoder.to(device).eval()
        self.config, self.device = config, device

    def draw(self, prompts: list[str], seed: int) -> Tensor:
        """[len(prompts), 3, H, W] in [-1, 1], on the CPU."""
        return generate(self.transformer, self.text_encoder, prompts, self.config, seed)

    def drawer(self, seed: int) -> RunDrawer:
        """As daybreak/evaluate has pictures drawn."""
        return RunDrawer(self.transformer, self.text_encoder, self.config, seed)

    @property
    def judges(self) -> bool:
        """Whether a judge can say which prompts are followed: it knows scenes, of a size."""
        return self.config.data.source == "scenes" and self.config.data.resolution >= LEAST_PX

    def follows(self) -> dict[str, float] | None:
        """Shares of the evaluation's prompts that are followed; None where no judge can say."""
        if not self.judges:
            return None
        e = self.config.evaluate
        return judge_scenes(lambda prompts: self.draw(prompts, e.seed), e, None).scores

    @torch.no_grad()
    def loss(self, probe: OwnProbe) -> float:
        """The velocity's mean squared error over pictures and noise levels, with fixed noise."""
        d, total = self.config.diffusion, 0.0
        side = probe.pictures.shape[-1]
        for start in range(0, len(probe.captions), 8):
            x0 = probe.pictures[start : start + 8].to(self.device)
            text = self.text_encoder(probe.captions[start : start + 8])
            numbers = range(start, start + len(x0))
            noise = d.noise_scale * torch.stack([noise_of(side, side, NOISE_SEED, n) for n in numbers]).to(self.device)
            for level in LEVELS:
                t = torch.full((len(x0),), level, device=self.device)
                x_t = flow.interpolate(x0, noise, t)
                said = flow.velocity(x_t, self.transformer(x_t, t, text).x0, t, d.floor)
                error = said - flow.velocity(x_t, x0, t, d.floor)
                total += float(error.square().mean(dim=(1, 2, 3)).double().sum())
        return total / (len(probe.captions) * len(LEVELS))


def draw_general(run: Path, base: OwnModel, settings: FinetuneSettings) -> int:
    """RUN/general: what the base draws to general prompts; returns how many."""
    prompts = _general_prompts(settings, base.config)
    write_general(base.draw(prompts, settings.seed), prompts, run / "general")
    return len(prompts)


def open_probes(run: Path, side: int) -> dict[str, OwnProbe]:
    """ "general", the pictures in RUN/general, and "domain", those in RUN/held_out where any are; of `side` px."""
    probes = {}
    for name, folder in (("general", run / "general"), ("domain", run / "held_out")):
        if folder.is_dir():
            kept = open_pictures(str(folder), Shapes.squares(side), background=(255, 255, 255))
            probes[name] = OwnProbe(to_tensor(kept.pixels.array()[:MOST]), kept.captions[:MOST])
    return probes


def _general_prompts(settings: FinetuneSettings, config: Config) -> list[str]:
    """The settings' own, else what the base knows: captions of scenes, or the fixed list."""
    if settings.general_prompts:
        return list(settings.general_prompts)
    if config.data.source == "scenes":
        known = ScenesSource(config.data.resolution, config.evaluate.seed).some_captions(4 * len(GENERAL_PROMPTS))
        return list(dict.fromkeys(known))[: len(GENERAL_PROMPTS)]
    return list(GENERAL_PROMPTS)


def report_own(
    console: Console, run: Path, settings: FinetuneSettings, weights: dict[str, str], before: OwnModel,
    after: OwnModel, start: dict[str, float], losses: dict[str, float],
) -> Path:  # fmt: skip
    """Draws with both, measures both, and writes RUN/report. Returns report.html."""
    steps, rate = after.config.train.steps, after.config.optim.adam_lr
    found: dict[str, Any] = {
        "method": "full",
        "base": settings.base,
        "steps": steps,
        "learning rate": rate,
    }
    listed = run / ("held_out.jsonl" if "domain" in losses else "training.jsonl")
    captions = [json.loads(line)["text"] for line in listed.read_text(encoding="utf-8").splitlines()]
    # Both with the same sampler, guidance and prompts, those of the base, which say what it was trained on too.
    after.config = before.config
    found["probes"] = [{"step": 0, **start}, {"step": steps, **losses}]

    def tell(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    for key, name, model in (("tuned", "tuned", after), ("base_model", "base", before)):
        found[key] = judge(
            run, name, model.drawer(settings.seed + 1), captions, weights, settings.report_pictures, model.device,
            Ranks(), tell,
        )  # fmt: skip
        if model.judges:
            tell(f"judging the prompts that {'the result' if name == 'tuned' else 'the base'} follows ...")
        if (shares := model.follows()) is not None:
            found[key]["follows"] = {k: shares[k] for k in SUMMARY}
    prompts = [item.caption for item in list_items(run / "general")]
    found["drift"] = show_general(run, after.draw(prompts, settings.seed))
    found["advice"] = []
    return write_report(run, found, start, losses)
