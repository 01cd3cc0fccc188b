"""Reads adapter files, whoever wrote them: kohya's scripts, LyCORIS, OneTrainer, ai-toolkit, diffusers, peft, daybreak.

Every tensor is accounted for: it belongs to a layer's adapter, or it is named with the reason why it is left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.finetune.adapters import Adapters
from daybreak.finetune.layer_names import Place, places, prefixes
from daybreak.finetune.updates import Adapter, Kronecker, adapter_from
from daybreak.model_folder import read_json

Parts = dict[str, nn.Module]
"""Networks by the pipeline's name for them: unet or transformer, text_encoder, text_encoder_2."""
PEFT_PREFIX = "base_model.model."
ENDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "lora_down.weight",
        re.compile(r"([._]lora)?[._](lora_A|down|lora_down|lora_linear_layer\.down)(\.default)?\.weight$"),
    ),
    ("lora_up.weight", re.compile(r"([._]lora)?[._](lora_B|up|lora_up|lora_linear_layer\.up)(\.default)?\.weight$")),
    ("lora_mid.weight", re.compile(r"\.lora_mid\.weight$")),
    ("", re.compile(r"\.(hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t2)(\.default)?$")),
    ("dora_scale", re.compile(r"\.dora_scale$")),
    ("magnitude", re.compile(r"\.lora_magnitude_vector(\.default)?(\.weight)?$")),
    ("alpha", re.compile(r"\.alpha$")),
    ("diff", re.compile(r"\.(diff|w_norm)$")),
    ("bias", re.compile(r"\.(diff_b|b_norm)$")),
)  # fmt: skip
"""What a tensor is, by the end of its name; without a word: its own name, which LyCORIS and peft share."""


@dataclass(frozen=True)
class Told:
    """What stands outside the tensors: alpha, the rank, and whether the scale is alpha over its root (rsLoRA)."""

    alpha: float
    rank: int
    over_root: bool


@dataclass(frozen=True)
class Found:
    """adapters: by network and layer; left: the tensors that are not used, and why."""

    adapters: dict[str, Adapters]
    left: dict[str, str]


def read(path: Path, parts: Parts) -> Found:
    """The adapters of a file for these networks. ConfigError where it is damaged, or says of no tensor how strong it
    is meant."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as e:
        raise ConfigError(f"{path} is damaged or missing: {' '.join(str(e).split())[:200]}") from None
    alpha_of = _alpha(path, header, tensors)
    known = {part: places(network) for part, network in parts.items()}
    left: dict[str, str] = {}
    layers: dict[tuple[str, str], dict[str, Tensor]] = {}
    keys: dict[tuple[str, str], list[str]] = {}
    for key, tensor in tensors.items():
        kind, name = _kind(key)
        where = None if kind is None else _where(name, parts, known)
        if kind is None:
            left[key] = "is no part of a LoRA, DoRA, LoHa or LoKr layer"
        elif where is None:
            left[key] = "belongs to no layer of the base"
        elif kind in layers.get(where, {}):
            left[key] = "is there under another name too"
        else:
            layers.setdefault(where, {})[kind] = tensor
            keys.setdefault(where, []).append(key)
    found: dict[str, Adapters] = {}
    for (part, flat), given in layers.items():
        try:
            adapter = _adapter(dict(given), alpha_of(part, known[part][flat][0].layer))
        except ValueError as e:
            for key in keys[part, flat]:
                left[key] = f"cannot be used: its layer {e}"
            continue
        for place in known[part][flat]:
            own = found.setdefault(part, {})
            if place.layer in own:
                left |= dict.fromkeys(keys[part, flat], f"is for {place.layer}, which another layer is for too")
            else:
                own[place.layer] = _part_of(adapter, place, parts[part])
    return Found(found, left)


def _kind(key: str) -> tuple[str | None, str]:
    """What a tensor is, and the name of its layer."""
    for kind, end in ENDS:
        if match := end.search(key):
            return kind or match[1], key[: match.start()].replace(".processor.", ".")
    return None, key


def _where(name: str, parts: Parts, known: dict[str, dict[str, list[Place]]]) -> tuple[str, str] | None:
    """The network, and the layer as `places` knows it."""
    for part in sorted(parts, key=lambda p: (not p.startswith("text_encoder"), -len(p))):  # text_encoder_2 first
        for prefix in prefixes(part):
            flat = name.removeprefix(prefix).replace(".", "_")
            if name.startswith(prefix) and flat in known[part]:
                # Tensors of one layer may come under several of its names.
                own = known[part][flat][0]
                return part, flat if own.rows else own.layer.replace(".", "_")
    return None


def _adapter(given: dict[str, Tensor], told: Told | None) -> Adapter:
    own, bias, magnitude = (given.pop(name, None) for name in ("alpha", "bias", "dora_scale"))
    if "magnitude" in given:  # peft's, of the outputs; a convolution's has them second
        magnitude = given.pop("magnitude").flatten()
    tensors = {name: tensor.float() for name, tensor in given.items()}
    extra = [None if t is None else t.float() for t in (magnitude, bias)]
    if own is not None or told is None:
        return adapter_from(tensors, None if own is None else float(own), *extra)
    adapter = adapter_from(tensors, told.alpha, *extra)
    rank = adapter.rank or told.rank
    if told.over_root:
        adapter = replace(adapter, alpha=told.alpha * rank**0.5)
    if isinstance(adapter, Kronecker) and adapter.rank is None:  # peft scales them all the same
        return replace(adapter, tensors=tensors | {"lokr_w1": tensors["lokr_w1"] * (adapter.alpha / rank)})
    return adapter


def _part_of(adapter: Adapter, place: Place, network: nn.Module) -> Adapter:
    if place.rows is None:
        return adapter
    layer: Any = network.get_submodule(place.layer)
    weight = getattr(layer, "base_layer", layer).weight
    return adapter.rows(place.rows, type(weight.shape)([place.outputs, *weight.shape[1:]]))


def _alpha(path: Path, header: dict[str, str], tensors: dict[str, Tensor]) -> Callable[[str, str], Told | None]:
    """How strong a layer of a network is meant that has no `.alpha`.

    diffusers' header or peft's adapter_config.json say it; None where neither does: the update is meant as it is.
    """
    if any(key.startswith(PEFT_PREFIX) for key in tensors):
        config = path.parent / "adapter_config.json"
        if not config.is_file():
            raise ConfigError(f"{path} is peft's, and its alpha stands in {config.name}: put that beside it")
        told = {"": read_json(config)}
    else:
        try:
            flat: dict[str, Any] = json.loads(header.get("lora_adapter_metadata", "{}"))
        except ValueError:
            raise ConfigError(f"{path} is damaged: its header's lora_adapter_metadata is no JSON") from None
        told = {}
        for key, value in flat.items():
            part, _, name = key.partition(".")
            told.setdefault(part, {})[name] = value

    def alpha(part: str, layer: str) -> Told | None:
        own = told.get(part, told.get("", {}))
        value = _for(layer, own.get("alpha_pattern"), own.get("lora_alpha", own.get("alpha")))
        rank = _for(layer, own.get("rank_pattern"), own.get("r", 1))
        return None if value is None else Told(float(value), int(rank), bool(own.get("use_rslora", False)))

    return alpha


def _for(layer: str, patterns: dict[str, Any] | None, otherwise: Any) -> Any:
    """What peft's patterns say of a layer."""
    matching = (v for p, v in (patterns or {}).items() if re.match(rf"(.*\.)?({p})$", layer))
    return next(matching, otherwise)
