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
from daybreak.evaluate.day_check import diverse
from daybreak.evaluate.pictures import save_pictures, write_captions
from daybreak.finetune import cache as caches
from daybreak.finetune import state as states
from daybreak.finetune.bases import base_of
from daybreak.finetune.cache import Cache, Order
from daybreak.finetune.drawing import draw
from daybreak.finetune.families import Family, family_of
from daybreak.finetune.loop import Run
from daybreak.finetune.memory import Plan, make_plan
from daybreak.finetune.methods import Averages, make_trainable
from daybreak.finetune.pictures import Pictures, findings, look_again, open_pictures
from daybreak.finetune.probes import GENERAL_PROMPTS, Probe
from daybreak.finetune.process import process_of
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.state import State, compute_dtype
from daybreak.parallel import Ranks
from daybreak.train.watch import Watcher

SAMPLES = 4
"""Held-out captions that are drawn as samples, where no prompts are given."""
ON_DEVICE = 4 * 2**30
"""Caches up to so many bytes are kept on the GPU."""
PICTURES = "pictures.npy"
"""What a resumed run knows its pictures and captions by."""
Progress = Callable[[str, int, int], None]


def open_state(settings: FinetuneSettings, device: torch.device) -> State:
    """The base, prepared for its method, at step 0, on the CPU. ConfigError for what cannot work."""
    dtype = compute_dtype(settings.precision, device)
    low = device.type == "cuda" and settings.method != "full"
    pipeline = base_of(settings, dtype if low else torch.float32)
    if low and hasattr(pipeline, "vae"):
        pipeline.vae.float()  # SDXL's overflows in float16, and it works once
    family = family_of(pipeline, settings.base)
    process = process_of(pipeline, settings)
    if settings.low_rank and not hasattr(family.network, "add_adapter"):
        raise ConfigError(f"diffusers has no LoRA format for {type(pipeline).__name__}: take --method full")
    torch.manual_seed(settings.seed)  # what adapters begin with
    trained = make_trainable(family, settings)
    return State(
        settings=settings,
        family=family,
        process=process,
        trained=trained,
        averages=Averages(trained, settings.ema),
        optimizer=states.make_optimizer(trained, settings),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
        generator=torch.Generator().manual_seed(settings.seed),
        device=device,
        dtype=dtype,
    )


def side_of(family: Family, settings: FinetuneSettings) -> int:
    """Side of the training pictures, px. ConfigError where it does not divide."""
    side = settings.resolution or family.resolution
    if side % family.multiple:
        near = max(1, round(side / family.multiple)) * family.multiple
        raise ConfigError(
            f"--resolution {side} does not divide by {family.multiple}, as {settings.base} needs; {near} does"
        )
    return side


def plan_of(state: State) -> Plan:
    """The memory plan."""
    side = side_of(state.family, state.settings)
    return make_plan(state.family, state.settings, state.trained.count(), side, state.dtype, state.device)


def open_data(state: State) -> tuple[Pictures, Pictures | None, Report]:
    """The user's pictures, those of the class where a folder holds them, and what is to be said of the former."""
    settings = state.settings
    side = side_of(state.family, settings)
    pictures = open_pictures(
        settings.data, side, settings.background, settings.instance_prompt, lines=settings.captions
    )
    if settings.token is not None:
        pictures.add_word(settings.token)  # it stands for what the captions do not say, and has to occur in each
    prior = None
    if settings.class_data is not None:
        prior = open_pictures(settings.class_data, side, settings.background, settings.class_prompt, "--class-data")
    return pictures, prior, findings(pictures, state.family)


def open_run(
    state: State, plan: Plan, data: tuple[Pictures, Pictures | None] | None, folder: Path, watchers: list[Watcher],
    ranks: Ranks, ends: float | None, progress: Progress, resume: bool,
) -> Run:  # fmt: skip
    """Caches what stays the same, draws what the base draws, and puts the run together.

    `data`: None where a resumed run has its cache; it is what `open_data` gives otherwise.
    """
    settings, family = state.settings, state.family
    side = side_of(family, settings)
    family.pipeline.to(state.device)
    state.averages.to(state.device)
    if plan.recompute:
        recompute(family.network, *state.trained.networks)
    general = list(settings.general_prompts or GENERAL_PROMPTS)
    if ranks.first and caches.load(folder / "cache") is None:
        if data is None:
            raise ConfigError(f"{folder}: its cache is damaged; resume it with its pictures in place ({settings.data})")
        _build(state, data, folder, side, general, progress)
    ranks.gather(None)
    cache = caches.load(folder / "cache")
    assert cache is not None
    general_rows = torch.load(folder / "cache" / "general.pt", weights_only=True)
    channels = family.row_channels(cache.rows.shape[1])
    probes = {"general": Probe.of(general_rows, general, state.process, channels)}
    if cache.held_out:
        rows = torch.stack([cache.rows[i] for i in cache.held_out[:64]])
        probes["domain"] = Probe.of(rows, [cache.captions[i] for i in cache.held_out[:64]], state.process, channels)
    order = Order(cache.training, cache.prior, settings.batch, settings.seed)
    if state.device.type == "cuda" and cache.bytes() <= ON_DEVICE:
        cache.to(state.device)
    if resume:
        states.restore(state, folder)
    for network in state.trained.networks:
        network.train()
    # With LoRA's low-precision base on the device, what is trained stays in float32.
    return Run(
        folder=folder,
        state=state,
        cache=cache,
        order=order,
        steps=settings.steps or order.steps(settings.epochs),
        micro_batch=min(plan.at_once, settings.batch),
        side=side,
        prompts=list(settings.prompts) or sample_prompts(cache),
        probes=probes,
        watchers=watchers,
        ranks=ranks,
        ends=ends,
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
    state: State,
    data: tuple[Pictures, Pictures | None],
    folder: Path,
    side: int,
    general: list[str],
    progress: Progress,
) -> None:
    settings, family = state.settings, state.family
    pictures, prior = data
    with torch.no_grad(), state.autocast():
        # Before training: what the base draws is what must not be forgotten.
        before = draw(family.pipeline, general, settings, side)
        write_general(before, general, folder / "general")
        if settings.class_prompt is not None and prior is None:
            prior = _draw_class(state, settings.class_prompt, folder / "class", side, progress)
        cache = caches.build(
            folder / "cache", family, pictures, prior, [*general, *settings.prompts], settings.held_out, settings.seed,
            settings.flip, not state.trained.text, state.dtype, state.device, progress,
        )  # fmt: skip
        rows = [family.rows(before[i : i + 4].to(state.device)).float().cpu() for i in range(0, len(before), 4)]
    torch.save(torch.cat(rows), folder / "cache" / "general.pt")
    write_split(folder, pictures, cache.training, cache.held_out)


def write_split(folder: Path, pictures: Pictures, training: list[int], held_out: list[int]) -> None:
    """RUN/training.jsonl and RUN/held_out.jsonl: names and captions; RUN/held_out/: the squares themselves."""
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


def _draw_class(state: State, prompt: str, folder: Path, side: int, progress: Progress) -> Pictures:
    """The base's own pictures of the class prompt; those that an earlier attempt has drawn are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    count = state.settings.class_count
    for i in range(0, count, 8):
        names = [folder / f"{n:05d}.png" for n in range(i, min(i + 8, count))]
        if not all(n.is_file() for n in names):
            drawn = draw(state.family.pipeline, [prompt] * len(names), state.settings, side, seed=1000 + i)
            for name, pixels in zip(names, to_uint8(drawn), strict=True):
                Image.fromarray(np.ascontiguousarray(pixels)).save(name)
        progress("class pictures", i + len(names), count)
    write_captions(folder, [f"{n:05d}.png" for n in range(count)], [prompt] * count)
    return open_pictures(str(folder), side, state.settings.background, prompt)


def changed_data(settings: FinetuneSettings, run: Path, read: Pictures | None) -> str | None:
    """What a resumed run has to say of its pictures; None where they are those it began with.

    `read`: those that are there now, where the run has to encode them anew; None where it keeps what it began with.
    """
    try:
        checks = look_again(settings.data, settings.instance_prompt, settings.captions) if read is None else read.checks
    except ConfigError as e:
        return f"--data {e}; the run goes on with the pictures that it began with, which it keeps"
    if (changes := changes_since(run / PICTURES, checks)) is None:
        return None
    told = f"the pictures of {settings.data} are not those that this run began with ({changes})"
    return f"{told}; it goes on with {'those it began with, which it keeps' if read is None else 'what is there now'}"


def write_skipped(folder: Path, skipped: list[Skipped]) -> None:
    """RUN/skipped.jsonl."""
    lines = [json.dumps({"path": s.path, "reason": s.reason}, ensure_ascii=False) + "\n" for s in skipped]
    (folder / "skipped.jsonl").write_text("".join(lines), encoding="utf-8")


def deadline(settings: FinetuneSettings, began: float) -> float | None:
    """The moment at which everything has to be over, seconds since 1970."""
    return None if settings.deadline_minutes is None else began + 60 * settings.deadline_minutes


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
    )
