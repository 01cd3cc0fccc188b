"""Weights from safetensors files into networks; what does not fit is an error that names the file."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from daybreak.config import ConfigError
from daybreak.model_folder import read_json


def read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors of a diffusers model folder, in one file or in several behind an index."""
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    names = {"diffusion_pytorch_model.safetensors"}
    if index.is_file():
        names = set(read_json(index).get("weight_map", {}).values())
    tensors: dict[str, Tensor] = {}
    for name in sorted(names):
        tensors |= read_tensors(folder / Path(name).name)  # .name: an index may not lead out of its folder
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file; ConfigError where it is damaged or missing."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        raise ConfigError(f"{path} is damaged or missing: {e}") from None


def load_weights(module: nn.Module, stored: dict[str, Tensor], path: Path) -> None:
    """Loads tensors, all of which must be there; tied ones are stored under one of their names."""
    own = module.state_dict()
    tied: dict[int, list[str]] = {}
    for name, value in own.items():
        tied.setdefault(value.data_ptr(), []).append(name)
    missing = [names[0] for names in tied.values() if not any(n in stored for n in names)]
    wrong = [k for k, v in stored.items() if k not in own or own[k].shape != v.shape]
    if missing or wrong:
        raise ConfigError(
            f"{path} does not fit the config: missing {missing[:2] or 'none'}, unknown or of another shape "
            f"{wrong[:2] or 'none'}"
        )
    module.load_state_dict(stored, strict=False)
