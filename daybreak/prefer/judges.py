"""Judges: how well each picture suits its prompt, as a number. Higher is better; only one judge's numbers compare."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from daybreak.config import ConfigError
from daybreak.data.scenes.expand import read
from daybreak.evaluate.geneval.prompts import GenEvalPrompt, read_prompts
from daybreak.prefer.command_judge import CommandJudge, program_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from daybreak.evaluate.features.networks import Clip

GENEVAL = "geneval:"
KINDS = (
    "scenes, geneval:FILE (prompts in the form of GenEval's evaluation_metadata.jsonl), clipscore, the folder of a "
    "reward model (CLIP, as PickScore and HPSv2 are), or a command"
)
"""What may stand behind --judge, in words."""


class Judge(Protocol):
    """prompts: the only ones that it can judge; None where it judges any."""

    prompts: Sequence[str] | None

    def scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        """One finite number for each of `images` [B, 3, H, W] uint8 and its prompt.

        Raises ConfigError, one line, where it cannot judge them.
        """
        ...


def check_judge(text: str) -> None:
    """ConfigError for a judge that is known to be wrong before it is opened. Needs no torch."""
    if text in ("scenes", "clipscore"):
        return
    if text.startswith(GENEVAL):
        read_prompts(_file(text))
    elif text == "geneval":
        raise ConfigError("--judge geneval needs prompts that are not the evaluation's: --judge geneval:FILE")
    elif text.strip() and (folder := Path(text).expanduser()).is_dir():
        _check_reward_model(folder)
    elif program_of(text) is None:
        raise ConfigError(f"--judge {shlex.quote(text)}: neither a judge, a folder nor a program; it may be {KINDS}")


def open_judge(text: str, weights: Mapping[str, str], device: torch.device) -> Judge:
    """What --judge names (KINDS); `weights` are other networks in place of the hub's, by their names there.

    Raises ConfigError where it is not to be had.
    """
    check_judge(text)
    if text == "scenes":
        return ScenesJudge()
    if text.startswith(GENEVAL):
        return GenEvalJudge(read_prompts(_file(text)), weights, device)
    if text == "clipscore":
        return ClipScoreJudge(weights.get("clip"), device)
    if (folder := Path(text).expanduser()).is_dir():
        return RewardModel(folder, device)
    return CommandJudge(text)


class ScenesJudge:
    """The share, in [0, 1], of what a prompt of `scenes` asks for that is read back from the picture's pixels."""

    prompts = None

    def scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        """See `Judge`. Prompts have to be short ones of the embedded world, which `read` understands."""
        from daybreak.evaluate.judge import see, share_right

        found = []
        for picture, prompt in zip((images.float() / 127.5 - 1).cpu().numpy(), prompts, strict=True):
            spec = read(prompt)
            if spec is None:
                raise ConfigError(f'--judge scenes: "{prompt}" is no short prompt of scenes, such as "two red circles"')
            try:
                found.append(share_right(see(picture), spec))
            except ValueError as e:
                raise ConfigError(f"--judge scenes: {e}") from None
        return found


class GenEvalJudge:
    """The share, in [0, 1], of GenEval's requirements that a picture meets. It knows the prompts of a file alone."""

    def __init__(self, prompts: list[GenEvalPrompt], weights: Mapping[str, str], device: torch.device) -> None:
        from daybreak.evaluate.features.networks import Clip
        from daybreak.evaluate.geneval.detect import Colors, Detector

        self._known = {p.text: p for p in prompts}
        self.prompts: Sequence[str] | None = list(self._known)
        self._detector = Detector(weights.get("mask2former"), device)
        self._detector.check(prompts)
        self._colors = Colors(Clip("clip", weights.get("clip"), device), device)

    def scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        """See `Judge`."""
        from functools import partial

        from daybreak.evaluate.geneval.scoring import judge

        if unknown := [p for p in prompts if p not in self._known]:
            raise ConfigError(f'--judge geneval: "{unknown[0]}" is none of the prompts of its file')
        found = []
        for image, prompt in zip(_pictures(images), prompts, strict=True):
            found.append(judge(self._known[prompt], self._detector.detect(image), partial(self._colors.of, image)).met)
        return found


class ClipScoreJudge:
    """CLIPScore, in [0, 100]."""

    prompts = None

    def __init__(self, weights: str | None, device: torch.device, fetch: bool = True) -> None:
        """fetch: whether the network is downloaded where it is not on this machine."""
        from daybreak.evaluate.features.networks import Clip

        self._clip, self._device = Clip("clip", weights, device, fetch), device

    def scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        """See `Judge`."""
        from daybreak.evaluate.clipscore import clip_scores

        return clip_scores(cosines(self._clip, images, prompts, self._device)).tolist()


class RewardModel:
    """A CLIP that was trained on people's choices: the cosine by its own scale (PickScore, arXiv 2305.01569, eq. 1;
    HPSv2, arXiv 2306.09341)."""

    prompts = None

    def __init__(self, folder: Path, device: torch.device) -> None:
        from daybreak.evaluate.features.networks import Clip

        try:
            self._clip, self._device = Clip("clip", str(folder), device), device
        except ConfigError as e:
            raise ConfigError(f"--judge {folder}: the reward model cannot be loaded ({e})") from None

    def scores(self, images: Tensor, prompts: Sequence[str]) -> list[float]:
        """See `Judge`."""
        return (self._clip.scale * cosines(self._clip, images, prompts, self._device)).tolist()


def cosines(clip: Clip, images: Tensor, prompts: Sequence[str], device: torch.device) -> Tensor:
    """[B] between the embeddings of pictures [B, 3, H, W] uint8 and of their prompts."""
    import torch
    from torch.nn import functional

    with torch.no_grad():
        pixels = torch.stack([clip.prepare(image) for image in _pictures(images)]).to(device)
        texts = clip.text_features(list(prompts))
        return functional.cosine_similarity(clip.features(pixels), texts)


def _pictures(images: Tensor) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(pixels) for pixels in images.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def _file(text: str) -> Path:
    return Path(text.removeprefix(GENEVAL)).expanduser()


def _check_reward_model(folder: Path) -> None:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if kind != "clip":
        said = "it has no config.json that names a model" if kind is None else f"its config.json says {kind!r}"
        raise ConfigError(f"--judge {folder}: a reward model is a CLIP as transformers stores it, and {said}")
    if not list(folder.glob("*.safetensors")):
        raise ConfigError(f"--judge {folder}: the reward model's weights are missing; model.safetensors is read")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ConfigError(f"--judge {folder}: the reward model's tokenizer is missing (tokenizer.json, or vocab.json)")
