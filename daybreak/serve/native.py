"""Our own models. Rows join and leave between any two steps: each has its own time, number of steps and guidance."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from daybreak.data.batch import to_uint8
from daybreak.diffusion import flow
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextTokens
from daybreak.evaluate.adapter_option import adapters_for
from daybreak.formats.open import open_model
from daybreak.sampling.generate import noise_of
from daybreak.sampling.guidance import classifier_free_by_row
from daybreak.sampling.sampler import FLOOR, STEPS
from daybreak.serve.jobs import Job, Order, Pixels, Preview, Start
from daybreak.serve.models import ModelInfo, Row, ServedModel, expander_of
from daybreak.serve.settings import ServeSettings

if TYPE_CHECKING:
    from daybreak.finetune.adapter_reading import Parts

log = logging.getLogger("daybreak")
CACHED_PROMPTS = 256


class NativeRow(Row):
    """x [3, H, W] at times[step]; times [S + 1] fall from 1 to 0; text and negative hold one caption each."""

    def __init__(self, job: Job, x: Tensor, times: Tensor, text: TextTokens, negative: TextTokens) -> None:
        super().__init__(job)
        self.x, self.times, self.text, self.negative = x, times, text, negative

    def advance(self, x: Tensor) -> None:
        """One step further, to x [3, H, W]."""
        self.x = x
        self.step += 1


class EditedRow(NativeRow):
    """A row that starts from a picture, and so takes the last steps alone.

    What the mask keeps is that picture at every time, with the row's noise, so that what is drawn fits it.
    """

    def __init__(
        self, job: Job, start: Start, noise: Tensor, times: Tensor, text: TextTokens, negative: TextTokens
    ) -> None:
        super().__init__(job, noise, times, text, negative)
        self._noise = noise
        self._given = torch.from_numpy(start.pixels).permute(2, 0, 1).to(noise) / 127.5 - 1
        self._changes = None if start.mask is None else torch.from_numpy(start.mask).to(noise.device)
        self.step = job.order.first_step
        self.x = self._at(times[self.step])

    def advance(self, x: Tensor) -> None:
        """See NativeRow."""
        if self._changes is not None:
            x = torch.where(self._changes, x, self._at(self.times[self.step + 1]))
        super().advance(x)

    def _at(self, t: Tensor) -> Tensor:
        return flow.interpolate(self._given[None], self._noise[None], t[None].to(self._noise))[0]


class NativeModel(ServedModel):
    """A run, or a folder that `daybreak export` wrote. ConfigError where `folder` is neither."""

    def __init__(self, name: str, folder: Path, settings: ServeSettings, device: torch.device) -> None:
        self._transformer, self._text_encoder, self._config = open_model(folder, device)
        if loras := adapters_for(settings.lora, name):
            from daybreak.finetune.loras import add_to_own

            add_to_own(self._transformer, self._text_encoder, loras, log.warning)
        if settings.compile:
            self._transformer.compile(dynamic=True)
        self._device = device
        self._bfloat16 = settings.bfloat16
        self._prompts: OrderedDict[Hashable, TextTokens] = OrderedDict()
        size, sample = self._config.data.resolution, self._config.sample
        self.info = ModelInfo(
            name=name,
            size=size,
            multiple=self._config.model.patch,
            max_size=settings.max_size or 2 * size,
            steps=min(sample.steps, settings.max_steps),
            guidance=sample.guidance,
            created=int(folder.stat().st_mtime),
            previews=True,
            expand=expander_of(settings, sample.expand),
        )

    def networks(self) -> Parts:
        """See ServedModel."""
        from daybreak.finetune.loras import parts_of_own

        return parts_of_own(self._transformer, self._text_encoder)

    def shape(self, order: Order) -> Hashable:
        """Rows need only be of one size, and drawn with the same adapters."""
        return order.height, order.width, order.loras

    @torch.inference_mode()
    def begin(self, jobs: list[Job]) -> list[Row]:
        """Encodes the prompts that are new, and draws each row's noise."""
        self.use(jobs[0].order)
        captions = [text for job in jobs for text in (job.prompt, job.order.negative_prompt)]
        tokens = self._encode(captions, jobs[0].order.loras)
        rows: list[Row] = []
        for job in jobs:
            o = job.order
            noise = noise_of(o.height, o.width, o.seed) * self._config.diffusion.noise_scale
            times = sampling_times(o.steps, self._config.diffusion.shift)
            text, negative = tokens[job.prompt], tokens[o.negative_prompt]
            job.text_tokens = text.mask.shape[1]
            noise = noise.to(self._device)
            if o.start is None:
                rows.append(NativeRow(job, noise, times, text, negative))
            else:
                rows.append(EditedRow(job, o.start, noise, times, text, negative))
        return rows

    @torch.inference_mode()
    def advance(self, rows: list[Row]) -> None:
        """One step of the run's sampler for all rows, each from its own time to its own next one."""
        self.use(rows[0].job.order)
        ours = [row for row in rows if isinstance(row, NativeRow)]
        x = torch.stack([row.x for row in ours])
        now = torch.stack([row.times[row.step] for row in ours]).to(self._device)
        then = torch.stack([row.times[row.step + 1] for row in ours]).to(self._device)
        s = self._config.sample
        denoise = classifier_free_by_row(
            self._transformer,
            TextTokens.cat([row.text for row in ours]),
            TextTokens.cat([row.negative for row in ours]),
            torch.tensor([row.job.order.guidance for row in ours], device=self._device),
            (s.guidance_from, s.guidance_to),
        )
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            after = STEPS[s.sampler](denoise, x, now, then)
        for row, x_next in zip(ours, after, strict=True):
            before = row.x
            row.advance(x_next)
            if row.step == len(row.times) - 1:
                row.pixels = to_uint8(row.x[None].float().cpu())[0]
            elif row.step in row.job.preview_steps:
                row.job.tell(Preview(row.step, len(row.times) - 1, self._preview(row, before)))

    def _preview(self, row: NativeRow, before: Tensor) -> Pixels:
        """The clean picture that the last step was heading for: its straight line, drawn on to t = 0."""
        now, then = row.times[row.step - 1 : row.step + 1]
        v = (row.x - before) / float(then - now)
        return to_uint8(flow.to_x0(before[None], v[None], now[None].to(before), FLOOR).float().cpu())[0]

    def _encode(self, captions: list[str], loras: Hashable) -> dict[str, TextTokens]:
        """Tokens of each caption, [1, L, C] with its own length L; the most recent ones are remembered.

        loras: the adapters in use, which may change them.
        """
        new = list(dict.fromkeys(c for c in captions if (c, loras) not in self._prompts))
        if new:
            together = self._text_encoder(new)
            for caption, embeddings, mask in zip(new, together.embeddings, together.mask, strict=True):
                length = int(mask.sum())
                self._prompts[caption, loras] = TextTokens(
                    embeddings[None, :length].clone(), mask[None, :length].clone()
                )
        result = {}
        for caption in captions:
            self._prompts.move_to_end((caption, loras))
            result[caption] = self._prompts[caption, loras]
        while len(self._prompts) > CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return result
