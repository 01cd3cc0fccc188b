"""From settings to everything that a run works with, refusing what cannot work before anything long begins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped, to_uint8
from daybreak.data.changes import changes_since
from daybreak.data.inspect.findings import Report
from daybreak.data.trigger import triggered
from daybreak.evaluate.day_check import diverse
from daybreak.evaluate.pictures import save_pictures, write_captions
from daybreak.finetune import cache as caches
from daybreak.finetune.cache import Cache
from daybreak.finetune.drawing import draw
from daybreak.finetune.findings import findings
from daybreak.finetune.masks import ALPHA, BESIDE, Masks
from daybreak.finetune.memory import Plan, make_plan
from daybreak.finetune.pictures import Pictures, look_again, open_pictures
from daybreak.finetune.prepared import Prepared
from daybreak.finetune.probes import GENERAL_PROMPTS, MOST, Probe
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.shapes import Shapes
from daybreak.finetune.trainee import Diffusers, loop_config, order_of
from daybreak.parallel import Ranks

SAMPLES = 4
"""Held-out captions that are drawn as samples, where no prompts are given."""
ON_DEVICE = 4 * 2**30
"""Caches of at most this many bytes are kept on the GPU."""
PICTURES = "pictures.npy"
"""What a resumed run knows its pictures and captions by."""
Progress = Callable[[str, int, int], None]


def plan_of(base: Prepared) -> Plan:
    """The memory plan."""
    return make_plan(base.family, base.settings, base.trained.count(), base.side, base.dtype, base.device)


def open_data(base: Prepared) -> tuple[Pictures, Pictures | None, Report]:
    """The user's pictures, those of the class where a folder holds them, and what is to be said of the former."""
    settings, shapes = base.settings, base.shapes
    masks = None if settings.masks is None else Masks(settings.masks)
    pictures = open_pictures(
        settings.data, shapes, settings.background, settings.instance_prompt, reading=settings.reading, masks=masks
    )
    found = findings(pictures, base.family, shapes)
    if (word := settings.trigger) is not None:
        pictures.reword(lambda text: triggered(text, word))
    if (token := settings.token) is not None:  # it stands for what the captions do not say, and has to occur in each
        pictures.reword(lambda text: text if token in text else f"{text}, {token}")
    prior = None
    if settings.class_data is not None:
        prior = open_pictures(settings.class_data, shapes, settings.background, settings.class_prompt, "--class-data")
    return pictures, prior, found


def open_trainee(
    base: Prepared, plan: Plan, data: tuple[Pictures, Pictures | None] | None, folder: Path, ranks: Ranks,
    progress: Progress,
) -> Diffusers:  # fmt: skip
    """Caches what stays the same, draws what the base draws, and puts the trainee together, at step 0.

    `data`: None where a resumed run has its cache; it is what `open_data` gives otherwise.
    """
    settings, family = base.settings, base.family
    family.pipeline.to(base.device)
    base.averages.to(base.device)
    if plan.recompute:  # what is offloaded does so by itself
        recompute(
            *(n for n in (family.network, *base.trained.networks) if not (settings.offload and n is family.network))
        )
    general = list(settings.general_prompts or GENERAL_PROMPTS)
    if ranks.first and caches.load(folder / "cache") is None:
        if data is None:
            raise ConfigError(f"{folder}: its cache is damaged; resume it with its pictures in place ({settings.data})")
        _build(base, data, folder, general, progress)
    ranks.wait()
    base.rest()
    cache = caches.load(folder / "cache")
    assert cache is not None
    general_rows = torch.load(folder / "cache" / "general.pt", weights_only=True)
    channels = family.row_channels(cache.rows[0].shape[1])
    probes = {"general": Probe.of(general_rows, general, base.process, channels)}
    if cache.held_out:
        held = cache.held_out[:MOST]
        captions = [cache.captions[i] for i in held]
        rows, weights = [cache.row(i) for i in held], [cache.weight(i) for i in held] if cache.weights else None
        probes["domain"] = Probe.of(rows, captions, base.process, channels, cache.sizes[held], weights)
    if base.device.type == "cuda" and cache.bytes() <= ON_DEVICE:
        cache.to(base.device)
    order = order_of(cache, settings, settings.seed)
    config = loop_config(settings, settings.steps or order.steps(settings.epochs), min(plan.at_once, settings.batch))
    base.shard(config, ranks.mesh)
    half = base.dtype == torch.float16
    return Diffusers(
        config=config,
        optimizers=[base.optimizer()],
        generator=torch.Generator().manual_seed(settings.seed),
        scaler=torch.amp.GradScaler(base.device.type) if half else None,
        base=base,
        folder=folder,
        cache=cache,
        prompts=list(settings.prompts) or sample_prompts(cache),
        probes=probes,
        world=ranks.world,
    )


def recompute(*networks: Any) -> None:
    """Has networks recompute their activations in the backward pass, as diffusers' or as transformers' ones do."""
    for network in networks:
        if hasattr(network, "enable_gradient_checkpointing"):
            network.enable_gradient_checkpointing()
        elif hasattr(network, "gradient_checkpointing_enable"):
            network.gradient_checkpointing_enable()


def sample_prompts(cache: Cache) -> list[str]:
    """Captions that share few words, of held-out pictures where there are any."""
    return diverse([cache.captions[i] for i in cache.held_out or cache.training], SAMPLES)


def _build(
    base: Prepared, data: tuple[Pictures, Pictures | None], folder: Path, general: list[str], progress: Progress
) -> None:
    settings, family, side = base.settings, base.family, base.side
    pictures, prior = data
    with torch.no_grad(), base.autocast():
        # Before training: what the base draws is what must not be forgotten.
        before = draw(family.pipeline, general, settings, side)
        write_general(before, general, folder / "general")
        if settings.class_prompt is not None and prior is None:
            prior = _draw_class(base, settings.class_prompt, folder / "class", progress)
        cache = caches.build(
            folder / "cache", family, pictures, prior, [*general, *settings.prompts], settings.held_out, settings.seed,
            settings.flip, not base.trained.text, settings.unmasked, base.dtype, base.device, progress,
        )  # fmt: skip
        rows = [family.rows(before[i : i + 4].to(base.device)).float().cpu() for i in range(0, len(before), 4)]
    torch.save(torch.cat(rows), folder / "cache" / "general.pt")
    write_split(folder, pictures, cache.training, cache.held_out)


def write_split(folder: Path, pictures: Pictures, training: list[int], held_out: list[int]) -> None:
    """RUN/training.jsonl and RUN/held_out.jsonl: names and captions; RUN/held_out/: the pictures themselves."""
    keys = [row.key for row in pictures.look.rows]
    for name, numbers in (("held_out", held_out), ("training", training)):
        listed = [{"key": keys[i], "text": pictures.captions[i]} for i in numbers]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in listed)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    if held_out:
        held = folder / "held_out"
        shutil.rmtree(held, ignore_errors=True)
        held.mkdir()
        names = [f"{i:06d}.png" for i in held_out]
        for name, i in zip(names, held_out, strict=True):
            Image.fromarray(np.array(pictures.pixels[i])).save(held / name)
        write_captions(held, names, [pictures.captions[i] for i in held_out])


def write_general(pictures: torch.Tensor, prompts: list[str], folder: Path) -> None:
    """The base's pictures of the general prompts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [f"{i:05d}.png" for i in range(len(prompts))]
    save_pictures(pictures, [folder / n for n in names])
    write_captions(folder, names, prompts)


def _draw_class(base: Prepared, prompt: str, folder: Path, progress: Progress) -> Pictures:
    """The base's own pictures of the class prompt; those that an earlier attempt has drawn are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    count, side = base.settings.class_count, base.side
    for i in range(0, count, 8):
        names = [folder / f"{n:05d}.png" for n in range(i, min(i + 8, count))]
        if not all(n.is_file() for n in names):
            drawn = draw(base.family.pipeline, [prompt] * len(names), base.settings, side, seed=1000 + i)
            for name, pixels in zip(names, to_uint8(drawn), strict=True):
                Image.fromarray(np.ascontiguousarray(pixels)).save(name)
        progress("class pictures", i + len(names), count)
    write_captions(folder, [f"{n:05d}.png" for n in range(count)], [prompt] * count)
    return open_pictures(str(folder), Shapes.squares(side), base.settings.background, prompt)


def changed_data(settings: FinetuneSettings, run: Path, read: Pictures | None = None) -> str | None:
    """What a resumed run has to say of its pictures; None where they are those it began with.

    `read`: those that are there now, where they were read already.
    """
    try:
        checks = look_again(settings.data, settings.instance_prompt, settings.reading) if read is None else read.checks
    except ConfigError as e:
        return f"--data {e}"
    if (changes := changes_since(run / PICTURES, checks)) is None:
        return None
    return f"the pictures of {settings.data} are not those that this run began with ({changes})"


def write_skipped(folder: Path, skipped: list[Skipped]) -> None:
    """RUN/skipped.jsonl."""
    lines = [json.dumps({"path": s.path, "reason": s.reason}, ensure_ascii=False) + "\n" for s in skipped]
    (folder / "skipped.jsonl").write_text("".join(lines), encoding="utf-8")


def absolute(settings: FinetuneSettings) -> FinetuneSettings:
    """Local places by their full path, so that the run can be resumed and opened from anywhere."""

    def full(place: str | None) -> str | None:
        path = Path(place).expanduser() if place else None
        return str(path.resolve()) if path is not None and path.exists() else place

    return replace(
        settings,
        base=full(settings.base) or settings.base,
        data=full(settings.data) or settings.data,
        base_config=full(settings.base_config),
        class_data=full(settings.class_data),
        lora=full(settings.lora),
        masks=settings.masks if settings.masks in (ALPHA, BESIDE) else full(settings.masks),
    )
