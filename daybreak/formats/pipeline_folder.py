"""A pipeline as a folder that diffusers opens with transformers 4 and 5 alike.

transformers 5 saves a CLIP tokenizer without vocab.json and merges.txt, a CLIPTextModel made with it without the level
`text_model`, and writes class names that transformers 4 does not have. Version 5 reads the older form of all of these,
so that is what is written. Where the base lay on this machine is left out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

VOCABULARIES = (
    "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""Files of a base's tokenizer that transformers 5 does not write again, and transformers 4 reads."""
OLDER_NAMES = {
    "TokenizersBackend": "PreTrainedTokenizerFast",
    "T5Tokenizer": "T5TokenizerFast",  # in transformers 4 the former reads spiece.model alone
    "CLIPImageProcessorPil": "CLIPImageProcessor",
    "SiglipImageProcessorPil": "SiglipImageProcessor",
}
"""Classes of transformers 5, and what both versions call them."""


def save_pipeline(pipeline: Any, folder: Path) -> None:
    """Writes a diffusers pipeline, its weights as safetensors."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    index = _read(folder / "model_index.json")
    for name, entry in index.items():
        if isinstance(entry, list) and entry[1] in OLDER_NAMES:
            index[name] = [entry[0], OLDER_NAMES[entry[1]]]
    index.pop("_name_or_path", None)
    _write(index, folder / "model_index.json")
    for name, part in pipeline.components.items():
        place = folder / name
        if (place / "config.json").is_file():
            settle_config(place / "config.json")
        if (place / "tokenizer.json").is_file():
            _older_tokenizer(place, part)
        if type(part).__name__ == "CLIPTextModel":
            _older_clip(place)


def settle_config(path: Path) -> None:
    """Takes out of a network's configuration where it came from, and has it opened as float32 unless told otherwise.

    transformers 5 opens a network as it was saved, diffusers as float32: of a pipeline in half precision, opened
    without a dtype, the text encoder was in half and the rest was not, and sampling failed.
    """
    config = _read(path)
    config.pop("_name_or_path", None)
    for part in [config, *(v for v in config.values() if isinstance(v, dict))]:
        if "dtype" in part:
            part["dtype"] = "float32"
    _write(config, path)


def _older_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Puts the base's own vocabulary files beside tokenizer.json; makes CLIP's two from it where the base had none."""
    config = _read(folder / "tokenizer_config.json")
    config["tokenizer_class"] = OLDER_NAMES.get(config["tokenizer_class"], config["tokenizer_class"])
    for local in ("is_local", "local_files_only"):
        config.pop(local, None)
    if isinstance(config.get("extra_special_tokens"), list):  # which has to be a dictionary in transformers 4
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    _write(config, folder / "tokenizer_config.json")
    for name in VOCABULARIES:
        own = Path(tokenizer.name_or_path) / name
        if own.is_file() and not (folder / name).exists():
            shutil.copyfile(own, folder / name)
    if config["tokenizer_class"] != "CLIPTokenizer":
        return
    content = _read(folder / "tokenizer.json")
    vocabulary = content["model"]["vocab"]
    if not (folder / "vocab.json").is_file():
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    added = {t["content"]: t["id"] for t in content["added_tokens"] if t["content"] not in vocabulary}
    if added:  # the words of textual inversion
        (folder / "added_tokens.json").write_text(json.dumps(added, ensure_ascii=False), encoding="utf-8")


def _older_clip(folder: Path) -> None:
    """Has the weights of a CLIPTextModel below `text_model`."""
    for path in folder.glob("model*.safetensors"):
        tensors = load_file(path)
        if not any(key.startswith("text_model.") for key in tensors):
            save_file({f"text_model.{k}": v for k, v in tensors.items()}, path, metadata={"format": "pt"})
    for path in folder.glob("*.index.json"):
        index = _read(path)
        places = index["weight_map"].items()
        index["weight_map"] = {"text_model." + k.removeprefix("text_model."): v for k, v in places}
        _write(index, path)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
