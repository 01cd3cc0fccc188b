"""A model of our own under an adapter: in memory it is the pipeline that `daybreak export` writes of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.encoders.text import TextEncoder, TextTokens
from daybreak.extras import require
from daybreak.finetune.families import PrxPixel, Text
from daybreak.formats.diffusers_folder import write_diffusers
from daybreak.formats.open import open_model
from daybreak.formats.own_folder import pipeline_settings, write_own
from daybreak.formats.prx_keys import is_prx
from daybreak.formats.text_parts import to_transformers
from daybreak.model.transformer import Transformer
from daybreak.sampling import sampler


def open_own_base(folder: Path) -> Any:
    """A run, or what daybreak export made of one, as a pipeline on the CPU, in float32."""
    require("diffusers", "finetune", "an adapter of a model of our own")
    from daybreak.formats.own_pipeline import DaybreakPipeline

    transformer, text_encoder, config = open_model(folder, torch.device("cpu"))
    network = _component(transformer, text_encoder.width)
    network.network = transformer
    text_network, tokenizer = to_transformers(text_encoder, torch.float32)
    pipeline = DaybreakPipeline(network, text_network, tokenizer, **pipeline_settings(config, text_encoder))
    pipeline.origin = text_encoder, config
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _component(transformer: Transformer, text_width: int) -> Any:
    """What holds a transformer of these sizes in a pipeline, with a new one in it."""
    from daybreak.formats.own_transformer import DaybreakTransformer

    return DaybreakTransformer(text_width, asdict(transformer.config), asdict(transformer.routing))


def own_networks(family: Any) -> tuple[Transformer, TextEncoder]:
    """Of an `Own`: its transformer, with the adapters on it, and its text encoder, on one device."""
    text_encoder, _ = family.pipeline.origin
    return family.network.network, text_encoder.to(family.pipeline.device)


class Own(PrxPixel):
    """Our transformer in pixels. Adapters are on its attention."""

    floor = sampler.FLOOR
    targets = ("qkv", "text_kv", "out", "attention_qkv", "attention_out")

    @property
    def multiple(self) -> int:
        """See `Family`."""
        return int(self.network.config.model["patch"])

    @property
    def guided_between(self) -> tuple[float, float]:  # type: ignore[override]
        """See `Family`."""
        return float(self.pipeline.config.guidance_from), float(self.pipeline.config.guidance_to)

    def text(self, captions: list[str]) -> Text:
        """The text encoder's last states, zero where the mask hides them."""
        length = self.max_tokens()
        read = self.pipeline.tokenizer(
            captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(self.pipeline.text_encoder.device)
        mask = read["attention_mask"].bool()
        states = self.pipeline.text_encoder(input_ids=read["input_ids"].long(), attention_mask=mask)[0]
        return {"states": torch.where(mask[..., None], states, 0.0), "mask": mask}

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """See `Family`."""
        return network(x_t, t, TextTokens(text["states"], text["mask"], True)).x0

    def another(self) -> Any:
        """See `Family`."""
        return _component(self.network.network, self.network.config.text_width)

    def save(self, folder: Path) -> None:
        """See `Family`; as daybreak export writes a run."""
        text_encoder, config = self.pipeline.origin
        transformer, dtype = self.network.network, next(self.network.parameters()).dtype
        write = write_diffusers if is_prx(transformer.config, transformer.routing) else write_own
        write(transformer.float(), text_encoder, config, folder, dtype)
