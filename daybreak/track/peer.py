"""PRX's own denoiser, from a checkout of its repository, in place of our transformer. Nothing of it is kept here.

The class is the checkout's `prx.models.prx.PRX`, with its own initial values, layers and kernels; text encoder, loss,
optimiser and sampler are ours. (benchmarks/against_peer.py compares the rest of its training code with ours.)
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from daybreak.config import ConfigError, ModelConfig, RoutingConfig
from daybreak.encoders.text import TextTokens
from daybreak.evaluate.grid import save_grid
from daybreak.model.transformer import Prediction
from daybreak.parallel import Ranks
from daybreak.sampling.generate import generate
from daybreak.track.peer_checkout import checkout_digest
from daybreak.train.pixel import Pixel
from daybreak.train.trainee import Samples

SAME = {"layout": "text_kv", "modulation": "block", "predicts": "x0", "text_blocks": 0, "convolutions": (),
        "detail": 0, "text_convolutions": 0, "pooled_text": False, "grounding": False, "size_conditioning": False,
        "recompute": False, "start": "grey"}  # fmt: skip
"""What a model has to be for PRX's class to be it."""


def peer_network(checkout: Path) -> Callable[[ModelConfig, int, RoutingConfig], Any]:
    """What makes PRX's denoiser with the interface of `Transformer`. ConfigError for a config that it cannot be."""
    prx: Any = _import(checkout)

    class PeerPRX(prx.PRX):  # type: ignore[misc,name-defined]
        """PRX's class; `forward` calls its parts in its own order, so that features of a middle block can be had."""

        def __init__(self, config: ModelConfig, text_width: int, routing: RoutingConfig) -> None:
            head = config.width // config.heads
            super().__init__(
                prx.PRXParams(
                    in_channels=3, patch_size=config.patch, context_in_dim=text_width, hidden_size=config.width,
                    mlp_ratio=config.mlp_ratio, num_heads=config.heads, depth=config.depth,
                    axes_dim=[head // 2, head // 2], theta=int(config.rope_theta), bottleneck_size=config.bottleneck,
                )
            )  # fmt: skip
            self.config, self.routing = config, routing

        def forward(
            self, x_t: Tensor, t: Tensor, text: TextTokens, visible: Tensor | None = None,
            feature_layer: int | None = None, dropped: Tensor | None = None,
        ) -> Prediction:  # fmt: skip
            """See `Transformer.forward`; tokens are neither routed nor left out."""
            assert visible is None and dropped is None
            x, words, place = self.process_inputs(x_t, text.embeddings)
            x, features = self.img_in(x), None
            time = self.compute_timestep_embedding(t, x.dtype)
            for index, block in enumerate(self.blocks):
                x = block(img=x, txt=words, vec=time, pe=place, attention_mask=text.mask)
                if index + 1 == feature_layer:
                    features = x
            return Prediction(prx.seq2img(self.final_layer(x, time), self.config.patch, x_t.shape), features)

    def make(config: ModelConfig, text_width: int, routing: RoutingConfig) -> Any:
        for name, value in SAME.items():
            if (found := getattr(config, name)) != value:
                raise ConfigError(f"--peer-checkout: PRX's denoiser has no model.{name} {found}: set {value}")
        if routing.keep < 1 or routing.method != "tread":
            raise ConfigError("--peer-checkout: PRX's denoiser routes no tokens by itself: set routing.keep 1")
        return PeerPRX(config, text_width, routing)

    return make


class PeerPixel(Pixel):
    """A run of a peer's denoiser: its pictures are shown, what goes on inside it is not."""

    def draw(self, path: Path, ranks: Ranks, asked: Sequence[str] = ()) -> Samples:  # noqa: ARG002
        """See `Trainee`."""
        assert self._probe is not None and self._stage is not None
        prompts = self._probe.prompts
        save_grid(generate(*self.drawing_networks(), prompts, self._stage, self._stage.evaluate.seed), prompts, path)
        return Samples()


def _import(checkout: Path) -> types.ModuleType:
    """prx.models.prx, without the packages' own __init__, which would import its trainer."""
    checkout_digest(checkout)
    for package in ("prx", "prx.models"):
        module = types.ModuleType(package)
        module.__path__ = [str(checkout / package.replace(".", "/"))]
        sys.modules.setdefault(package, module)
    return importlib.import_module("prx.models.prx")
