"""Networks of the Hugging Face hub that metrics and the rewriter of prompts use, and loading one."""

from __future__ import annotations

from typing import Any

from daybreak.config import ConfigError

HUB_MODELS = {
    "clip": ("openai/clip-vit-large-patch14", "1.7 GB", "CLIP of CLIPScore and of GenEval's colours"),
    "clip_336": ("openai/clip-vit-large-patch14-336", "1.7 GB", "CLIP of CMMD"),
    "dinov2": ("facebook/dinov2-large", "1.2 GB", "DINOv2 of FD-DINOv2, DINO-MMD and the memorisation check"),
    "mask2former": ("facebook/mask2former-swin-small-coco-instance", "0.3 GB", "the detector of GenEval"),
    "vqa": ("Qwen/Qwen2.5-VL-7B-Instruct", "16.6 GB", "the model that answers questions about pictures"),
    "rewriter": ("Qwen/Qwen3-4B-Instruct-2507", "8.1 GB", "the model that rewrites prompts"),
}
"""name: (default model, size of its download, what for). `--weights NAME=FOLDER_OR_ID` puts another in its place."""


def load_pretrained(kind: Any, name: str, weights: str | None, **options: Any) -> Any:
    """A transformers model of class `kind` in evaluation mode: `weights` (folder or id), else the default of `name`.

    Only safetensors are loaded. Raises ConfigError that says what to bring, and how, where it is not to be had.
    """
    default, size, purpose = HUB_MODELS[name]
    source = weights or default
    no_bar_of_weights()
    try:
        return kind.from_pretrained(source, use_safetensors=True, **options).eval()
    except (OSError, ValueError) as e:
        reason = " ".join(str(e).split()).split(". ")[0]
        raise ConfigError(
            f"{source} ({purpose}) cannot be loaded: {reason}; where there is no network, run `hf download {default} "
            f"--local-dir FOLDER` ({size}) elsewhere, bring the folder, and name it with --weights {name}=FOLDER"
        ) from None


def no_bar_of_weights() -> None:
    """From now on transformers draws no bar while it reads weights, which would break into what daybreak shows.

    Those of downloads stay as they are.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    silent = are_progress_bars_disabled()
    disable_progress_bar()
    if not silent:
        enable_progress_bars()
