"""LoRA and DoRA as files: under names that all readers map, read back, and compared with the network in memory.

RUN/lora/pytorch_lora_weights.safetensors   for diffusers, and LoRA for ComfyUI; alpha / rank is part of `up`
RUN/lora/lora_kohya.safetensors             for A1111, Forge, ComfyUI, kohya's scripts; alpha stands in `.alpha`

diffusers' own converter renames attention layers alone, and its loader then judges all names by the first: of a file
with attention and other layers it lost the former without a word. So all layers are written in one spelling: of a UNet
the one that diffusers and ComfyUI both map, of a transformer peft's.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from daybreak import __version__
from daybreak.config import ConfigError
from daybreak.finetune.adapters import Adapter, Adapters, adapters_of, difference
from daybreak.train.guard import TrainingError

LORA, KOHYA = "pytorch_lora_weights.safetensors", "lora_kohya.safetensors"
Parts = dict[str, nn.Module]
"""Networks by the pipeline's name for them: unet or transformer, text_encoder, text_encoder_2."""

KOHYA_PREFIXES = {"unet": "lora_unet_", "transformer": "lora_transformer_"}
KOHYA_LAYERS = {"add_embedding_linear_1": "label_emb_0_0", "add_embedding_linear_2": "label_emb_0_2"}
"""SDXL's layers for the picture's size, which A1111 and diffusers know by their first names alone."""
OUR_LAYERS = {theirs: ours for ours, theirs in KOHYA_LAYERS.items()}
KINDS = (
    ("down", re.compile(r"([._]lora)?[._](lora_A|down|lora_down|lora_linear_layer\.down)\.weight$")),
    ("up", re.compile(r"([._]lora)?[._](lora_B|up|lora_up|lora_linear_layer\.up)\.weight$")),
    ("magnitude", re.compile(r"\.(lora_magnitude_vector(\.weight)?|dora_scale)$")),
    ("alpha", re.compile(r"\.alpha$")),
)
"""What a tensor is, by the end of its name: peft's, diffusers' two older spellings, transformers', kohya's."""


def write(folder: Path, parts: Parts) -> None:
    """Writes both files from what the networks carry."""
    adapters = {part: adapters_of(network) for part, network in parts.items()}
    ours: dict[str, Tensor] = {}
    kohya: dict[str, Tensor] = {}
    for part, layers in adapters.items():
        prefix = kohya_prefix(part, parts)
        for layer, adapter in layers.items():
            ours |= _diffusers_tensors(part, layer, adapter)
            kohya |= _kohya_tensors(prefix, layer, adapter)
    any_adapter = next(a for layers in adapters.values() for a in layers.values())
    header = {"format": "pt", "daybreak": __version__}
    save_file({k: v.contiguous() for k, v in ours.items()}, folder / LORA, metadata=header)
    header |= {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(any_adapter.rank),
        "ss_network_alpha": str(any_adapter.alpha),
    }
    save_file({k: v.contiguous() for k, v in kohya.items()}, folder / KOHYA, metadata=header)


def _diffusers_tensors(part: str, layer: str, adapter: Adapter) -> dict[str, Tensor]:
    up, down = adapter.scaled_up, adapter.down
    magnitude = adapter.magnitude
    if magnitude is not None and up.ndim == 4:
        magnitude = magnitude.view(1, -1, 1, 1)
    if part == "transformer":
        name = f"{part}.{layer}"
        result = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    elif part == "unet":
        attention = re.fullmatch(r"(.*)\.(to_q|to_k|to_v|to_out)(\.0)?", layer)
        name = f"{part}.{attention[1]}.processor.{attention[2]}_lora" if attention else f"{part}.{layer}.lora"
        result = {f"{name}.down.weight": down, f"{name}.up.weight": up}
    else:
        name = f"{part}.{_old_text_name(layer)}.lora_linear_layer"
        result = {f"{name}.down.weight": down, f"{name}.up.weight": up}
    if magnitude is not None:
        # transformers 5 drops a text encoder's magnitudes under the name that peft itself writes
        of_text = part not in KOHYA_PREFIXES
        place = f"{part}.{_old_text_name(layer) if of_text else layer}.lora_magnitude_vector"
        result[f"{place}.weight" if of_text else place] = magnitude
    return result


def _kohya_tensors(prefix: str, layer: str, adapter: Adapter) -> dict[str, Tensor]:
    flat = (layer if prefix in KOHYA_PREFIXES.values() else _old_text_name(layer)).replace(".", "_")
    name = prefix + KOHYA_LAYERS.get(flat, flat)
    result = {
        f"{name}.lora_down.weight": adapter.down,
        f"{name}.lora_up.weight": adapter.up,
        f"{name}.alpha": torch.tensor(adapter.alpha),
    }
    if adapter.magnitude is not None:  # one scale an output, in the weight's number of dimensions
        result[f"{name}.dora_scale"] = adapter.magnitude.view(-1, *[1] * (adapter.up.ndim - 1))
    return result


def kohya_prefix(part: str, parts: Parts) -> str:
    """kohya's name for a network; of one text encoder lora_te_, of several lora_te1_, lora_te2_, ..."""
    if part in KOHYA_PREFIXES:
        return KOHYA_PREFIXES[part]
    several = sum(name.startswith("text_encoder") for name in parts) > 1
    number = part.removeprefix("text_encoder").removeprefix("_")
    return f"lora_te{number or '1'}_" if several else "lora_te_"


def read(path: Path, parts: Parts) -> dict[str, Adapters]:
    """The adapters of a file, by network and layer, in any of the spellings; also where several are mixed, as daybreak
    wrote them before. ConfigError, naming the tensor, for what belongs to no layer of `parts`, or is incomplete.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as e:
        raise ConfigError(f"{path} is damaged or missing: {' '.join(str(e).split())[:200]}") from None
    layers = {part: _layers(network) for part, network in parts.items()}
    found: dict[str, dict[str, dict[str, Tensor]]] = {part: {} for part in parts}
    for key, tensor in tensors.items():
        part, layer, kind = _place(path, key, parts, layers)
        found[part].setdefault(layer, {})[kind] = tensor
    told = json.loads(header.get("lora_adapter_metadata", "{}"))
    result: dict[str, Adapters] = {}
    for part, its_layers in found.items():
        alpha = told.get(f"{part}.lora_alpha")
        result[part] = {layer: _adapter(path, layer, given, alpha) for layer, given in its_layers.items()}
    return {part: its_layers for part, its_layers in result.items() if its_layers}


def _place(path: Path, key: str, parts: Parts, layers: dict[str, dict[str, str]]) -> tuple[str, str, str]:
    """Network, layer and kind of a tensor."""
    kind, ends = next(((kind, match) for kind, end in KINDS if (match := end.search(key))), (None, None))
    if kind is None or ends is None:
        raise ConfigError(f"{path}: {key} is no part of a LoRA or DoRA layer")
    name = key[: ends.start()].replace(".processor.", ".")
    for part in sorted(parts, key=len, reverse=True):  # text_encoder_2 before text_encoder
        for prefix in (f"{part}.", kohya_prefix(part, parts)):
            if name.startswith(prefix):
                flat = name.removeprefix(prefix).replace(".", "_")
                for known in (flat, f"{flat}_0", OUR_LAYERS.get(flat, flat)):
                    if known in layers[part]:
                        return part, layers[part][known], kind
    raise ConfigError(f"{path}: {key} belongs to no layer of the base")


def _layers(network: nn.Module) -> dict[str, str]:
    """A network's linear and convolutional layers: the name with _ for every dot, to the name."""
    plain = ((n.removesuffix(".base_layer"), m) for n, m in network.named_modules())
    names = [n for n, m in plain if isinstance(m, (nn.Linear, nn.Conv2d)) and ".lora_" not in n]
    flat = {n.replace(".", "_"): n for n in names}
    # transformers 4 and 5 differ by this level; files have it
    return flat | {"text_model_" + k: n for k, n in flat.items() if not k.startswith("text_model_")}


def _adapter(path: Path, layer: str, given: dict[str, Tensor], alpha: float | None) -> Adapter:
    if missing := {"down", "up"} - given.keys():
        raise ConfigError(f"{path}: {layer} has no {sorted(missing)[0]} tensor")
    down, up = given["down"].float(), given["up"].float()
    own = float(given["alpha"]) if "alpha" in given else float(alpha or len(down))
    magnitude = given["magnitude"].float().flatten() if "magnitude" in given else None
    return Adapter(down, up, own, magnitude)


def check(folder: Path, pipeline: Any, parts: Parts) -> None:
    """Reads both files back, the first also as diffusers does, and compares them with what the networks carry.

    TrainingError where anything was lost or changed.
    """
    written = {part: adapters_of(network) for part, network in parts.items()}
    readers = {name: read(folder / name, parts) for name in (LORA, KOHYA)}
    readers[f"{LORA}, as diffusers reads it,"] = through_diffusers(pipeline, parts, folder / LORA)
    for name, back in readers.items():
        for part, layers in written.items():
            if found := difference(layers, back.get(part, {})):
                raise TrainingError(
                    f"{folder.with_suffix('').name}/{name} does not hold what was trained: of the {part}, {found}. "
                    "The run's checkpoints hold it whole"
                )


def through_diffusers(pipeline: Any, parts: Parts, path: Path) -> dict[str, Adapters]:
    """What `load_lora_weights` makes of a file, on networks of the same layers that take no memory."""
    from diffusers.utils import logging

    shell = copy.copy(pipeline)
    hollow = {part: _hollow(network) for part, network in parts.items()}
    for part, network in hollow.items():
        setattr(shell, part, network)
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns where there is nothing for the text encoders
    try:
        shell.load_lora_weights(path.parent, weight_name=path.name)
    except (ValueError, KeyError, RuntimeError) as e:
        raise TrainingError(f"{path.name}: diffusers does not read it: {' '.join(str(e).split())[:300]}") from None
    finally:
        logging.set_verbosity(level)
    return {part: adapters_of(network) for part, network in hollow.items()}


def _hollow(network: Any) -> nn.Module:
    """A network of the same layers, each weight one number that stands for all."""
    kind = type(network)
    with torch.device("meta"):
        hollow: nn.Module = kind.from_config(network.config) if hasattr(kind, "from_config") else kind(network.config)
    for module in hollow.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.zeros(()).expand(weight.shape), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))
    return hollow


def _old_text_name(layer: str) -> str:
    """A CLIP layer's name with the level that transformers 5 left out, and all other programs know."""
    return layer if layer.startswith("text_model.") else f"text_model.{layer}"
