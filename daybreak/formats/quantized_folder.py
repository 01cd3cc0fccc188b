"""A model in 8 bits (torchao), and back.

DIR/quantized.json           the kind of quantisation
DIR/model.safetensors        `NAME.qdata` (8 bits) and `NAME.scale` of every linear layer's weight; the rest in float16
DIR/text_encoder/config.json, DIR/tokenizer/, DIR/daybreak.yaml
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from daybreak import config as configs
from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder, open_text_encoder
from daybreak.extras import require
from daybreak.formats.weights import read_tensors
from daybreak.model.transformer import Transformer
from daybreak.model_folder import CONFIG_FILE, QUANTIZED_FILE, check_without_data, read_json

Kind = Literal["int8", "int8-dynamic", "fp8"]
CONFIGS: dict[Kind, str] = {
    "int8": "Int8WeightOnlyConfig",
    "int8-dynamic": "Int8DynamicActivationInt8WeightConfig",
    "fp8": "Float8DynamicActivationFloat8WeightConfig",
}
"""torchao's names. Weights have one scale a row; the dynamic kinds also quantise what enters each layer."""
FP8_CAPABILITY = (8, 9)
WEIGHTS_FILE = "model.safetensors"


def check_hardware(kind: Kind, device: torch.device) -> None:
    """ConfigError, with the reason, where `device` cannot compute with this kind of weights."""
    if kind != "fp8":
        return
    if device.type != "cuda":
        raise ConfigError("--to fp8 needs a GPU with float8 arithmetic; there is none here: --to int8 works everywhere")
    if torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
        raise ConfigError(
            f"--to fp8 needs a GPU with float8 arithmetic (compute capability 8.9, Ada or Hopper, or newer); "
            f"{torch.cuda.get_device_name(device)} has none: --to int8 works everywhere"
        )


def quantize(transformer: Transformer, text_encoder: TextEncoder, kind: Kind) -> nn.ModuleDict:
    """Turns the weights of all linear layers into 8 bits, in place; returns them as one module.

    A frozen text encoder stays as it is.
    """
    torchao = require("torchao.quantization", "quant", "a model in 8 bits")
    networks = nn.ModuleDict({"transformer": transformer})
    if not text_encoder.frozen:
        networks["text_encoder"] = text_encoder.network
    networks.requires_grad_(False)
    torchao.quantize_(networks, getattr(torchao, CONFIGS[kind])())
    return networks


def write_quantized(
    networks: nn.ModuleDict, text_encoder: TextEncoder, config: Config, kind: Kind, folder: Path
) -> None:
    """Writes what `quantize` returned."""
    folder.mkdir(parents=True)
    configs.save(config, folder / CONFIG_FILE)
    (folder / QUANTIZED_FILE).write_text(json.dumps({"kind": kind}) + "\n")
    save_file({k: v.cpu().contiguous() for k, v in _parts(networks).items()}, folder / WEIGHTS_FILE)
    if not text_encoder.frozen:
        text_encoder.tokenizer.save(folder / "tokenizer")
        text_encoder.network.config.save(folder / "text_encoder")


def read_quantized(folder: Path, device: torch.device) -> tuple[Transformer, TextEncoder, Config]:
    """The networks that `write_quantized` wrote, still in 8 bits, on `device`."""
    kind = read_json(folder / QUANTIZED_FILE).get("kind")
    if kind not in CONFIGS:
        raise ConfigError(f"{folder / QUANTIZED_FILE}: kind is {kind!r}; it must be one of {', '.join(CONFIGS)}")
    check_hardware(kind, device)
    config = check_without_data(configs.load(folder / CONFIG_FILE))
    frozen = config.text.pretrained is not None
    text_encoder = open_text_encoder(config.text) if frozen else TextEncoder.load(folder, weights=False)
    text_encoder = text_encoder.to(device).eval()
    transformer = Transformer(config.model, text_encoder.width, config.routing).to(device).eval()
    parts = _parts(quantize(transformer, text_encoder, kind), stored=False)
    tensors = read_tensors(folder / WEIGHTS_FILE)
    wrong = sorted(parts.keys() ^ tensors.keys()) or [k for k in parts if parts[k].shape != tensors[k].shape]
    if wrong:
        raise ConfigError(
            f"{folder / WEIGHTS_FILE} does not fit its config: {wrong[0]} is missing, unknown or misshapen"
        )
    for name, part in parts.items():
        part.copy_(tensors[name])
    return transformer, text_encoder, config


def weight_bytes(module: nn.Module) -> int:
    """Memory that a module's weights take."""
    weights: list[Any] = list(module.parameters())
    parts = [p for w in weights for p in ((w.qdata, w.scale) if hasattr(w, "qdata") else (w,))]
    return sum(p.numel() * p.element_size() for p in parts)


def _parts(networks: nn.ModuleDict, stored: bool = True) -> dict[str, Tensor]:
    """The plain tensors that the weights consist of, by name; with `stored`, those not in 8 bits as float16."""
    parts: dict[str, Tensor] = {}
    weights: dict[str, Any] = dict(networks.named_parameters())
    for name, weight in weights.items():
        if hasattr(weight, "qdata"):
            parts[f"{name}.qdata"], parts[f"{name}.scale"] = weight.qdata, weight.scale
        else:
            parts[name] = weight.data.half() if stored else weight.data
    return parts
