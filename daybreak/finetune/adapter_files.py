"""Trained adapters as files: under names that all readers map, read back, and compared with the network in memory.

RUN/lora/pytorch_lora_weights.safetensors   LoRA and DoRA for diffusers, LoRA for ComfyUI; alpha / rank is part of `up`
RUN/lora/lora_kohya.safetensors             for A1111, Forge, ComfyUI, kohya's scripts; alpha stands in `.alpha`

LoHa and LoKr have the second alone, under LyCORIS' names.

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
from safetensors.torch import save_file
from torch import Tensor, nn

from daybreak import __version__
from daybreak.config import ConfigError
from daybreak.finetune.adapter_reading import Parts, read
from daybreak.finetune.adapters import Adapters, adapters_of, difference
from daybreak.finetune.updates import Adapter, Hadamard, LowRank
from daybreak.train.guard import TrainingError

LORA, KOHYA = "pytorch_lora_weights.safetensors", "lora_kohya.safetensors"
KOHYA_PREFIXES = {"unet": "lora_unet_", "transformer": "lora_transformer_"}
KOHYA_LAYERS = {"add_embedding_linear_1": "label_emb_0_0", "add_embedding_linear_2": "label_emb_0_2"}
"""SDXL's layers for the picture's size, which A1111 and diffusers know by their first names alone."""


def write(folder: Path, parts: Parts) -> None:
    """Writes the files from what the networks carry."""
    adapters = {part: adapters_of(network) for part, network in parts.items()}
    ours: dict[str, Tensor] = {}
    kohya: dict[str, Tensor] = {}
    for part, layers in adapters.items():
        prefix = kohya_prefix(part, parts)
        for layer, adapter in layers.items():
            if isinstance(adapter, LowRank):
                ours |= _diffusers_tensors(part, layer, adapter)
            kohya |= _kohya_tensors(prefix, layer, adapter)
    any_adapter = next(a for layers in adapters.values() for a in layers.values())
    header = {"format": "pt", "daybreak": __version__}
    if ours:
        save_file({k: v.contiguous() for k, v in ours.items()}, folder / LORA, metadata=header)
    low_rank = isinstance(any_adapter, LowRank)
    header |= {
        "ss_network_module": "networks.lora" if low_rank else "lycoris.kohya",
        "ss_network_dim": str(any_adapter.rank),
        "ss_network_alpha": str(any_adapter.alpha),
    }
    if not low_rank:
        header["ss_network_args"] = json.dumps({"algo": "loha" if isinstance(any_adapter, Hadamard) else "lokr"})
    save_file({k: v.contiguous() for k, v in kohya.items()}, folder / KOHYA, metadata=header)


def _diffusers_tensors(part: str, layer: str, adapter: LowRank) -> dict[str, Tensor]:
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
    result = {f"{name}.{end}": tensor for end, tensor in adapter.tensors.items()}
    result[f"{name}.alpha"] = torch.tensor(adapter.alpha)
    if isinstance(adapter, LowRank) and adapter.magnitude is not None:
        # one scale an output, in the weight's number of dimensions
        result[f"{name}.dora_scale"] = adapter.magnitude.view(-1, *[1] * (adapter.up.ndim - 1))
    return result


def kohya_prefix(part: str, parts: Parts) -> str:
    """kohya's name for a network; of one text encoder lora_te_, of several lora_te1_, lora_te2_, ..."""
    if part in KOHYA_PREFIXES:
        return KOHYA_PREFIXES[part]
    several = sum(name.startswith("text_encoder") for name in parts) > 1
    number = part.removeprefix("text_encoder").removeprefix("_")
    return f"lora_te{number or '1'}_" if several else "lora_te_"


def read_own(path: Path, parts: Parts) -> dict[str, Adapters]:
    """The adapters of a file that daybreak wrote, all of them. ConfigError, naming the tensor, where one is left."""
    found = read(path, parts)
    if found.left:
        key, reason = next(iter(found.left.items()))
        raise ConfigError(f"{path}: {key} {reason}")
    return found.adapters


def result_file(folder: Path) -> Path:
    """Of RUN/lora, the file that is read."""
    return folder / (LORA if (folder / LORA).is_file() else KOHYA)


def check(folder: Path, pipeline: Any, parts: Parts) -> None:
    """Reads the files back, the first also as diffusers does, and compares them with what the networks carry.

    TrainingError where anything was lost or changed.
    """
    written = {part: adapters_of(network) for part, network in parts.items()}
    readers = {name: read_own(folder / name, parts) for name in (LORA, KOHYA) if (folder / name).is_file()}
    if LORA in readers and all(hasattr(network, "add_adapter") for network in parts.values()):  # not PRX
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
