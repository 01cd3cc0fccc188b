"""Low-rank adapters of a network: taken from it, put onto it, made part of its weights, compared.

peft does the arithmetic. transformers 5's own adapter methods ask for a peft that does not exist, so they are not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.extras import require

NAME = "default"
"""Of the adapter, in peft."""
TOLERANCE = 1e-5
"""Of what comes back from a file, relative to a tensor's largest value: folding alpha / rank in rounds."""


@dataclass(frozen=True)
class Adapter:
    """Of one layer with the weight W: W + (alpha / rank) up @ down; with a magnitude (DoRA, arXiv 2402.09353, eq. 5)
    that direction at this length, for each output.

    down: [rank, in] or, of a convolution, [rank, in, k, k]; up: [out, rank] or [out, rank, 1, 1]; magnitude: [out].
    """

    down: Tensor
    up: Tensor
    alpha: float
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def scaled_up(self) -> Tensor:
        """`up` with alpha / rank in it."""
        return self.up * (self.alpha / self.rank)

    def same_as(self, other: Adapter) -> bool:
        """Whether both do the same to a layer, to rounding."""
        pairs = [(self.down, other.down), (self.scaled_up, other.scaled_up)]
        if self.magnitude is not None or other.magnitude is not None:
            if self.magnitude is None or other.magnitude is None:
                return False
            pairs.append((self.magnitude, other.magnitude))
        return all(a.shape == b.shape and (a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in pairs)


Adapters = dict[str, Adapter]
"""By the layer's name in its network."""


def layer_names(network: nn.Module) -> list[str]:
    """The layers that can carry an adapter: linear and convolutional ones."""
    return [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]


def targeted(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """Those whose names end in one of `targets`, at a dot."""
    return [name for name in layer_names(network) if any(f".{name}".endswith(f".{t}") for t in targets)]


def adapted(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that carry adapters."""
    from peft.tuners.lora import LoraLayer

    return ((name, layer) for name, layer in network.named_modules() if isinstance(layer, LoraLayer))


def adapters_of(network: nn.Module) -> Adapters:
    """What a network carries, in float32 on the CPU. Of several adapters (diffusers names them), the only one."""
    found = {}
    for layer_name, layer in adapted(network):
        (name,) = layer.lora_A
        magnitude = layer.lora_magnitude_vector
        if any(weight.is_meta for part, weight in layer.named_parameters() if "lora_" in part):
            continue  # a loader has left it without values
        found[layer_name] = Adapter(
            down=_plain(layer.lora_A[name].weight),
            up=_plain(layer.lora_B[name].weight),
            alpha=float(layer.scaling[name] * layer.r[name]),
            # peft keeps a convolution's as [1, out, 1, 1]
            magnitude=_plain(magnitude[name].weight).flatten() if name in magnitude else None,
        )
    return found


def put(network: nn.Module, adapters: Adapters, source: str) -> None:
    """Has the network's layers carry these adapters. ConfigError, naming `source`, where one does not fit its layer."""
    peft = require("peft", "finetune", f"opening {source}")
    ranks = {a.rank for a in adapters.values()}
    dora = {a.magnitude is not None for a in adapters.values()}
    if len(ranks) > 1 or len(dora) > 1:
        raise ConfigError(f"{source}: its layers differ in rank or kind, which daybreak does not write")
    config = peft.LoraConfig(r=ranks.pop(), lora_alpha=1, target_modules=list(adapters), use_dora=dora.pop())
    peft.inject_adapter_in_model(config, network, NAME)
    for layer_name, layer in adapted(network):
        adapter = adapters[layer_name]
        layer.scaling[NAME] = adapter.alpha / adapter.rank
        given = {layer.lora_A[NAME]: adapter.down, layer.lora_B[NAME]: adapter.up}
        if adapter.magnitude is not None:
            part = layer.lora_magnitude_vector[NAME]
            given[part] = adapter.magnitude.view(1, -1, 1, 1) if part.weight.ndim == 4 else adapter.magnitude
        for part, tensor in given.items():
            if part.weight.shape != tensor.shape:
                shapes = f"{list(tensor.shape)}, not {list(part.weight.shape)}"
                raise ConfigError(f"{source}: {layer_name} does not fit the base: a tensor is {shapes}")
            part.weight.data = tensor.to(part.weight)
    network.requires_grad_(False)
    network.eval()


def merge(network: nn.Module) -> None:
    """Makes its adapters part of a network's weights."""
    if not hasattr(network, "peft_config"):  # none were put on it, and peft need not be there
        return
    from diffusers.utils.peft_utils import recurse_remove_peft_layers

    for _, layer in adapted(network):
        layer.merge()
    recurse_remove_peft_layers(network)
    del network.peft_config


def difference(written: Adapters, read: Adapters) -> str | None:
    """What of `written` did not come back, in words; None where all did."""
    lost = sorted(written.keys() - read.keys())
    if lost:
        return f"{len(lost)} of {len(written)} layers are not read back (such as {lost[0]})"
    if extra := sorted(read.keys() - written.keys()):
        return f"{len(extra)} layers come back that were not trained (such as {extra[0]})"
    changed = sorted(name for name in written if not written[name].same_as(read[name]))
    return f"{len(changed)} of {len(written)} layers come back changed (such as {changed[0]})" if changed else None


def _plain(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float32).clone()
