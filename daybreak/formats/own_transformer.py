"""The transformer as a component of a diffusers pipeline. Exported models carry it along (bundle.py)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from daybreak.config import ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.model.transformer import Prediction, Transformer


class DaybreakTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """`network` and what builds it: the width of its text tokens, and the fields of `ModelConfig`, `RoutingConfig`."""

    @register_to_config
    def __init__(self, text_width: int, model: dict[str, Any], routing: dict[str, Any]) -> None:
        super().__init__()
        model = model | {"convolutions": tuple(model["convolutions"])}  # a list in JSON
        self.network = Transformer(ModelConfig(**model), text_width, RoutingConfig(**routing))

    def forward(self, x_t: Tensor, t: Tensor, text: TextTokens) -> Prediction:
        """As the network's; weights in half precision are worked with as in training, by autocast."""
        if self.dtype == torch.float32:
            return self.network(x_t, t, text)
        with torch.autocast(x_t.device.type, self.dtype):
            return self.network(x_t, t, text)
