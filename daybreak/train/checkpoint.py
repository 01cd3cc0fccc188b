"""Checkpoints: a folder each, complete or absent.

RUN/checkpoints/step-00001200/
    transformer.safetensors   averaged weights of the transformer: what sampling loads
    text_encoder/ tokenizer/  averaged text encoder, as `from_pretrained` reads it; absent where it is a frozen one
    trained.safetensors       the weights that training goes on with
    average-*.safetensors     running power-function averages, where train.posthoc_ema asks for them
    optimizer.pt              optimiser and generator state (tensors and numbers only)
    state.json                step, position, seconds
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from daybreak.config import Config, ConfigError
from daybreak.encoders.text import TextEncoder, open_text_encoder
from daybreak.model.transformer import Transformer
from daybreak.optim.muon import Muon
from daybreak.train import phema
from daybreak.train.state import TrainState

KEEP = 2
"""Checkpoints that stay; older ones go once a newer one is complete."""


def save(state: TrainState, run: Path) -> Path:
    """Writes a checkpoint under a temporary name, renames it, then removes old ones. Returns its folder."""
    folder = run / "checkpoints" / f"step-{state.step:08d}"
    building = folder.with_suffix(".incomplete")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    save_file(_contiguous(state.average.state_dict()), building / "transformer.safetensors")
    if not state.average_text.frozen:
        state.average_text.save(building)
    save_file(_trained(state), building / "trained.safetensors")
    if state.power_averages is not None:
        for length, tensors in state.power_averages.tensors.items():
            save_file(_contiguous(tensors), building / f"average-{length:g}.safetensors")
    torch.save(
        {"optimizers": [o.state_dict() for o in state.optimizers], "generator": state.generator.get_state()},
        building / "optimizer.pt",
    )
    numbers = {"step": state.step, "position": state.position, "seconds": state.seconds}
    (building / "state.json").write_text(json.dumps(numbers))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)
    for old in complete(run)[:-KEEP]:
        shutil.rmtree(old)
    return folder


def complete(run: Path) -> list[Path]:
    """The run's complete checkpoints, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("step-*") if p.suffix != ".incomplete")


def newest(run: Path) -> Path:
    """The newest complete checkpoint; ConfigError where there is none."""
    if not run.is_dir():
        raise ConfigError(f"{run}: no such run folder")
    found = complete(run)
    if not found:
        raise ConfigError(f"{run} holds no checkpoint (looked for checkpoints/step-*)")
    return found[-1]


def load_averaged(run: Path, config: Config, device: torch.device) -> tuple[Transformer, TextEncoder]:
    """The averaged networks of a run's newest checkpoint, ready for sampling."""
    transformer, text_encoder = _load_averages(newest(run), config)
    return transformer.to(device).eval(), text_encoder.to(device).eval()


def resume(run: Path, config: Config, device: torch.device) -> TrainState:
    """The state that `save` wrote, to the bit. ConfigError where it does not fit `config` or is damaged."""
    folder = newest(run)
    transformer, text_encoder = _load_averages(folder, config)
    state = TrainState.around(transformer, text_encoder, config, device)  # both copies hold the averages now
    trained = _read(folder / "trained.safetensors")
    for name, module in state.trained_modules().items():
        part = {k.removeprefix(name + "."): v for k, v in trained.items() if k.startswith(name + ".")}
        _load_weights(module, part, folder / "trained.safetensors")
    if state.power_averages is not None:
        for length, tensors in state.power_averages.tensors.items():
            stored = _read(folder / f"average-{length:g}.safetensors")
            for name, tensor in tensors.items():
                tensor.copy_(stored[name])
    try:
        rest = torch.load(folder / "optimizer.pt", map_location=device, weights_only=True)
        for optimizer, saved in zip(state.optimizers, rest["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        state.generator.set_state(rest["generator"].cpu())
        numbers = json.loads((folder / "state.json").read_text())
        state.step, state.position, state.seconds = numbers["step"], numbers["position"], numbers["seconds"]
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as e:
        raise ConfigError(f"{folder} is damaged: {' '.join(str(e).split())[:200]}") from None
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:  # the config's rate, should it have been changed for the continuation
            group["base_lr"] = config.optim.muon_lr if isinstance(optimizer, Muon) else config.optim.adam_lr
    return state


def save_average(run: Path, config: Config, length: float, out: Path) -> Path:
    """Writes a checkpoint in `out` whose averaged weights have the relative `length` (train/phema.py).

    It serves for drawing, not for going on with training. Raises ConfigError where `out` is not empty or the run
    stored no snapshots.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty: choose another --out")
    transformer, text_encoder = load_average_of(run, config, length)
    folder = out / "checkpoints" / newest(run).name
    folder.mkdir(parents=True)
    save_file(_contiguous(transformer.state_dict()), folder / "transformer.safetensors")
    if not text_encoder.frozen:
        text_encoder.save(folder)
    return folder


def load_average_of(run: Path, config: Config, length: float) -> tuple[Transformer, TextEncoder]:
    """The networks averaged over the relative `length`. Raises ConfigError where the run stored no snapshots."""
    transformer, text_encoder = _load_averages(newest(run), config)
    tensors = phema.reconstruct(run, length)
    modules: dict[str, nn.Module] = {"transformer": transformer}
    if not text_encoder.frozen:
        modules["text_encoder"] = text_encoder
    for name, module in modules.items():
        part = {k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")}
        _load_weights(module, part, run / phema.FOLDER)
    return transformer, text_encoder


def _load_averages(folder: Path, config: Config) -> tuple[Transformer, TextEncoder]:
    text_encoder = _load_text_encoder(folder, config)
    transformer = Transformer(config.model, text_encoder.width, config.routing)
    _load_weights(transformer, _read(folder / "transformer.safetensors"), folder / "transformer.safetensors")
    return transformer, text_encoder


def _load_text_encoder(folder: Path, config: Config) -> TextEncoder:
    if config.text.pretrained is not None:
        return open_text_encoder(config.text)
    try:
        return TextEncoder.load(folder)
    except Exception as e:  # the tokenizers library raises nothing more specific
        reason = " ".join(str(e).split())[:200]
        raise ConfigError(f"{folder}: its text encoder is damaged or missing: {reason}") from None


def _trained(state: TrainState) -> dict[str, Tensor]:
    tensors = {
        f"{part}.{k}": v for part, module in state.trained_modules().items() for k, v in module.state_dict().items()
    }
    return _contiguous(tensors)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What safetensors can store: contiguous, and each memory once (T5 ties its two embedding tables)."""
    kept: dict[int, str] = {}
    return {k: v.contiguous() for k, v in tensors.items() if kept.setdefault(v.data_ptr(), k) == k}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        raise ConfigError(f"{path} is damaged or missing: {e}") from None


def _load_weights(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Loads `tensors`, all of which must be there; tied ones are stored under one of their names."""
    own = module.state_dict()
    tied: dict[int, list[str]] = {}
    for name, value in own.items():
        tied.setdefault(value.data_ptr(), []).append(name)
    missing = [names[0] for names in tied.values() if not any(n in tensors for n in names)]
    wrong = [k for k, v in tensors.items() if k not in own or own[k].shape != v.shape]
    if missing or wrong:
        raise ConfigError(
            f"{path} does not fit the config: missing {missing[:2] or 'none'}, unknown or of another shape "
            f"{wrong[:2] or 'none'}"
        )
    module.load_state_dict(tensors, strict=False)
