"""A trained model as plain safetensors under our own names, and back.

DIR/transformer.safetensors   the transformer; the file's header holds the config too
DIR/text_encoder/ tokenizer/  as `from_pretrained` reads them
DIR/daybreak.yaml             the run's config
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from daybreak import __version__
from daybreak import config as configs
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.formats.diffusers_folder import read_text_encoder
from daybreak.formats.text_parts import save_text
from daybreak.formats.weights import load_weights, read_tensors
from daybreak.model.transformer import Transformer
from daybreak.model_folder import CONFIG_FILE, WEIGHTS_FILE, check_without_data


def write_safetensors(
    transformer: Transformer, text_encoder: TextEncoder, config: Config, folder: Path, dtype: torch.dtype
) -> None:
    """Writes the model into `folder`, its weights as `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    configs.save(config, folder / CONFIG_FILE)
    tensors = {k: v.to("cpu", dtype).contiguous() for k, v in transformer.state_dict().items()}
    header = {"format": "pt", "daybreak": __version__, "config": (folder / CONFIG_FILE).read_text()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata=header)
    save_text(text_encoder, folder, dtype)


def read_safetensors(folder: Path) -> tuple[Transformer, TextEncoder, Config]:
    """The networks that `write_safetensors` wrote, in float32. Raises ConfigError for missing or damaged files."""
    config = check_without_data(configs.load(folder / CONFIG_FILE))
    text_encoder = read_text_encoder(folder, config.text.max_tokens, frozen=config.text.pretrained is not None)
    transformer = Transformer(config.model, text_encoder.width, config.routing)
    tensors = {k: v.float() for k, v in read_tensors(folder / WEIGHTS_FILE).items()}
    load_weights(transformer, tensors, folder / WEIGHTS_FILE)
    return transformer.eval(), text_encoder.eval(), config
