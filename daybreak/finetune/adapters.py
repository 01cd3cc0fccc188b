"""Adapters of a network: put onto it for training, taken from it, made part of its weights, compared.

peft does the arithmetic of training. transformers 5's own adapter methods ask for a peft that does not exist, so they
are not used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.extras import require
from daybreak.finetune.updates import Adapter, Difference, Hadamard, Kronecker, LowRank

NAME = "default"
"""Of the adapter, in peft."""
Kind = Literal["lora", "dora", "loha", "lokr"]
Adapters = dict[str, Adapter]
"""By the layer's name in its network."""
Weights = list[tuple[nn.Parameter, Tensor]]
"""Parameters, each with values that it has, had or is to have."""


def layer_names(network: nn.Module) -> list[str]:
    """The layers that can carry an adapter: linear and convolutional ones."""
    return [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]


def targeted(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """Those whose names end in one of `targets`, at a dot."""
    return [name for name in layer_names(network) if any(f".{name}".endswith(f".{t}") for t in targets)]


def inject(
    network: nn.Module, kind: Kind, ranks: Mapping[str, int], alpha: float | None, source: str, **options: Any
) -> None:
    """Puts fresh adapters onto the layers of `ranks`, which do nothing yet. alpha: none: as the rank. ConfigError
    without peft, which `source` needs."""
    peft = require("peft", "finetune", source)
    most = Counter(ranks.values()).most_common(1)[0][0]
    # By their whole names, as patterns with both ends: other modules may end alike.
    config = {
        "r": most,
        "target_modules": "|".join(re.escape(name) for name in ranks),
        "rank_pattern": {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != most},
    }
    if kind in ("lora", "dora"):
        start = {"init_lora_weights": "gaussian", "use_dora": kind == "dora"}
        made = peft.LoraConfig(**config, lora_alpha=alpha or most, **start, **options)
    else:
        make = peft.LoHaConfig if kind == "loha" else peft.LoKrConfig
        made = make(**config, alpha=alpha or most, **options)
    peft.inject_adapter_in_model(made, network, NAME)
    if alpha is None:
        for _, layer in adapted(network):
            layer.scaling[NAME] = 1.0


def inject_alike(network: Any, other: nn.Module) -> None:
    """Puts fresh adapters onto `other`, a network of the same kind, where `network` has some."""
    peft = require("peft", "finetune", "an adapter")
    peft.inject_adapter_in_model(network.peft_config[NAME], other, NAME)
    scales = {name: layer.scaling[NAME] for name, layer in adapted(network)}
    for name, layer in adapted(other):
        layer.scaling[NAME] = scales[name]


def adapted(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers that carry adapters."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lycoris_utils import LycorisLayer

    kinds = LoraLayer, LycorisLayer
    return ((name, layer) for name, layer in network.named_modules() if isinstance(layer, kinds))


def adapters_of(network: nn.Module) -> Adapters:
    """What a network carries, in float32 on the CPU. Of several adapters (diffusers names them), the only one."""
    found: Adapters = {}
    for layer_name, layer in adapted(network):
        parts = _parts(layer)
        if any(weight.is_meta for weight in parts.values()):
            continue  # a loader has left it without values
        (name,) = layer.scaling
        values = {part: _plain(weight) for part, weight in parts.items()}
        found[layer_name] = _adapter(values, float(layer.scaling[name]), float(layer.r[name]))
    return found


def _parts(layer: Any) -> dict[str, Tensor]:
    """A layer's tensors in peft, under the names that they have in files; magnitude as `dora_scale`."""
    (name,) = layer.scaling
    parts = {}
    for attribute in layer.adapter_layer_names:
        held = getattr(layer, attribute)
        if name in held:
            weight = getattr(held[name], "weight", held[name])
            renamed = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight", "lora_magnitude_vector": "dora_scale"}
            parts[renamed.get(attribute, attribute)] = weight
    return parts


def _adapter(values: dict[str, Tensor], scaling: float, rank: float) -> Adapter:
    # peft keeps a convolution's as [1, out, 1, 1]
    magnitude = values.pop("dora_scale").flatten() if "dora_scale" in values else None
    if "lora_down.weight" in values:
        return LowRank(values, scaling * rank, magnitude)
    if "hada_w1_a" in values:
        return Hadamard(values, scaling * rank)
    # Of two whole factors peft has a scale all the same, and files have none: it is made part of the first.
    first = "lokr_w1" if "lokr_w1" in values else "lokr_w1_a"
    made = Kronecker(values | {first: values[first] * scaling}, 1.0)
    return Kronecker(made.tensors, float(made.rank or 1))


def kind_of_adapters(adapters: Adapters) -> Kind | None:
    """What they are, where they are of one kind, and peft builds it; else None."""
    kinds = {_kind(adapter) for adapter in adapters.values()}
    return kinds.pop() if len(kinds) == 1 else None


def _kind(adapter: Adapter) -> Kind | None:
    if isinstance(adapter, Difference) or "lora_mid.weight" in adapter.tensors or adapter.bias is not None:
        return None
    if isinstance(adapter, LowRank):
        return "lora" if adapter.magnitude is None else "dora"
    if adapter.magnitude is not None:
        return None
    return "loha" if isinstance(adapter, Hadamard) else "lokr"


def put(network: nn.Module, adapters: Adapters, source: str) -> None:
    """Has the network's layers carry these adapters. ConfigError, naming `source`, where one does not fit its layer."""
    kind = kind_of_adapters(adapters)
    if kind is None:
        raise ConfigError(f"{source}: its layers differ in kind, or are of one that peft has not")
    ranks = {name: _rank_in_peft(adapter) for name, adapter in adapters.items()}
    inject(network, kind, ranks, None, f"opening {source}", **_options(kind, adapters))
    for layer_name, layer in adapted(network):
        adapter = adapters[layer_name]
        layer.scaling[NAME] = adapter.scale
        given = dict(adapter.tensors)
        parts = _parts(layer)
        if adapter.magnitude is not None:
            given["dora_scale"] = adapter.magnitude.reshape(parts["dora_scale"].shape)
        if other := sorted(parts.keys() ^ given.keys()):
            raise ConfigError(f"{source}: {layer_name} is built in a way that peft does not build it ({other[0]})")
        for part, tensor in given.items():
            if parts[part].shape != tensor.shape:
                shapes = f"{list(tensor.shape)}, not {list(parts[part].shape)}"
                raise ConfigError(f"{source}: {layer_name} does not fit the base: a tensor is {shapes}")
            parts[part].data = tensor.to(parts[part])
    network.requires_grad_(False)
    network.eval()


def _rank_in_peft(adapter: Adapter) -> int:
    """peft keeps a factor of LoKr whole from a rank of half its size on."""
    return adapter.rank or max(adapter.tensors["lokr_w2"].shape[:2])


def _options(kind: Kind, adapters: Adapters) -> dict[str, Any]:
    """How peft has to build LoHa and LoKr so that these fit."""
    if kind in ("lora", "dora"):
        return {}
    cores = any("t1" in n or "t2" in n for a in adapters.values() for n in a.tensors)
    if kind == "loha":
        return {"use_effective_conv2d": cores}
    first = {tuple(a.tensors["lokr_w1"].shape) for a in adapters.values() if "lokr_w1" in a.tensors}
    sides = {side for shape in first for side in shape}
    both = any("lokr_w1_a" in a.tensors for a in adapters.values())
    return {
        "use_effective_conv2d": cores,
        "decompose_both": both,
        "decompose_factor": sides.pop() if len(sides) == 1 and not both else -1,
    }


@torch.no_grad()
def fold(network: nn.Module, adapters: Adapters, strength: float, source: str) -> Weights:
    """Makes adapters part of the weights, at a strength. ConfigError, naming `source`, where one does not fit.

    Returns the weights that were replaced, each with what it held, which is left as it was: putting it back undoes it.
    """
    changed: Weights = []
    for name, adapter in adapters.items():
        layer: Any = network.get_submodule(name)
        try:
            changed.append((layer.weight, adapter.applied(layer.weight.data, strength)))
            if adapter.bias is not None:
                changed.append((layer.bias, layer.bias.data + strength * adapter.bias.to(layer.bias)))
        except (ValueError, RuntimeError, AttributeError) as e:
            raise ConfigError(f"{source}: {name} does not fit the base: {' '.join(str(e).split())[:200]}") from None
    before = [(weight, weight.data) for weight, _ in changed]
    for weight, value in changed:  # all of them, or none
        weight.data = value
    return before


def merge(network: nn.Module) -> None:
    """Makes its adapters part of a network's weights."""
    if not hasattr(network, "peft_config"):  # none were put on it, and peft need not be there
        return
    for name, layer in list(adapted(network)):
        layer.merge()
        place, _, own = name.rpartition(".")
        setattr(network.get_submodule(place), own, layer.get_base_layer())
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
