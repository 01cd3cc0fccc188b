"""Every kind of base by every method: trained for 40 steps, exported, opened by plain diffusers: the same picture?

    python benchmarks/finetune_families.py [--only sd flux2] [--methods lora] [--out families]

The bases are tiny, of their real classes, with random weights. Training and export are the commands as a user types
them. The picture is compared with what the averaged weights of the run's last checkpoint draw, in float32. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from daybreak import checkpoint_files, cli
from daybreak.finetune import settings as settings_file
from daybreak.finetune.bases import open_base
from daybreak.finetune.drawing import call
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.report import probes_of
from tests.finetune import tiny, tiny_today

STEPS = 40
MOST = 1e-4
"""Largest difference of a number in [0, 1] at which pictures are the same."""
LORA = ["--method", "lora", "--rank", "4"]
METHODS = {"full": ["--method", "full"]} | {
    method: ["--method", method, "--rank", "4"] for method in ("lora", "dora", "loha", "lokr")
}
KEPT = {
    "lora, int8": [*LORA, "--base-weights", "int8"],
    "lora, nf4": [*LORA, "--base-weights", "nf4"],
    "lora, offloaded": [*LORA, "--offload"],
    "lora, nf4, offloaded": [*LORA, "--base-weights", "nf4", "--offload"],
}
TEXT = {
    "full, text encoder": ["--method", "full", "--train-text-encoder"],
    "lora, text encoder": [*LORA, "--train-text-encoder"],
    "textual inversion": ["--method", "textual-inversion", "--token", "<mine>", "--init-word", "dog", "--vectors", "2"],
}
SIDES = {"own": 32}
"""px; 16 otherwise."""
RATES = {"full": "2e-3", "textual inversion": "5e-2", "own": "5e-3"}


def save_own(folder: Path) -> Path:
    """A run of daybreak train of a few steps."""
    sizes = {"data.resolution": SIDES["own"], "model.width": 32, "model.depth": 2, "model.heads": 2}
    told = {"train.steps": 60, "optim.adam_lr": 3e-3, "train.batch": 8, "evaluate.metrics": "none"} | sizes
    # As `picture` draws: with other steps than the run's own diffusers' scheduler takes other times.
    told |= {"sample.steps": 4, "sample.guidance": 2.0, "sample.guidance_from": 0.0, "sample.guidance_to": 1.0}
    told |= {"diffusion.shift": 2.0}
    words = ["train", "scenes", "--out", folder, *(word for k, v in told.items() for word in (f"--{k}", v))]
    command(words)
    return folder


BASES: dict[str, Callable[[Path], Path]] = {
    "sd": tiny.save_sd,
    "sd, v": lambda folder: tiny.save_sd(folder, "v_prediction"),
    "sdxl": tiny.save_sdxl, "sd3": tiny.save_sd3, "flux": tiny.save_flux, **tiny_today.SAVE,
    "prx": tiny.save_prx, "prx_pixel": tiny.save_prx_pixel, "own": save_own,
}  # fmt: skip


def stir(folder: Path) -> None:
    """Gates of a new transformer are zero, which those of a trained one are not."""
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    if file.is_file():
        generator = torch.Generator().manual_seed(0)
        moved = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in load_file(file).items()}
        save_file(moved, file, metadata={"format": "pt"})


def command(words: list[Any]) -> str:
    """`daybreak WORDS` in this process; what it printed. RuntimeError, with that, where it did not end well."""
    sys.argv = ["daybreak", *map(str, words)]
    printed = io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            cli.entry()
        except SystemExit as end:
            code = end.code
    if code:
        raise RuntimeError(f"daybreak {' '.join(map(str, words))} ended with {code}:\n{printed.getvalue()[-2000:]}")
    return printed.getvalue()


def picture(pipeline: Any, prompt: str, side: int) -> torch.Tensor:
    """[1, 3, side, side] in [0, 1]."""
    options = {"num_inference_steps": 4, "height": side, "width": side, "guidance_scale": 2.0}
    if type(pipeline).__name__.startswith("PRX"):
        options["use_resolution_binning"] = False
    pipeline.set_progress_bar_config(disable=True)
    return call(pipeline, [prompt], [torch.Generator().manual_seed(3)], options) / 2 + 0.5


def trained(run: Path, prompt: str, side: int) -> torch.Tensor:
    """What the averaged weights of the last checkpoint draw, on the base as it is, with its own sampler."""
    settings = settings_file.load(run)
    prepared = open_prepared(replace(settings, base_weights="plain", offload=False), torch.device("cpu"))
    newest = checkpoint_files.complete(run)[-1] / "training"
    stored = {k: v for file in newest.glob("*.safetensors") for k, v in load_file(file).items()}
    for name in prepared.averages.tensors:
        prepared.averages.tensors[name].copy_(stored[f"averaged.{name}"])
    with prepared.averages.in_place():
        return picture(prepared.family.pipeline, prompt, side)


def row(base: Path, name: str, words: list[str], data: Path, folder: Path, kind: str) -> tuple[str, bool]:
    """Of one base and method: a line of the table, and whether the picture was the same."""
    run, out, side = folder / "run", folder / "exported", SIDES.get(kind, 16)
    rate = RATES.get(kind) or RATES.get(name.split(",")[0], "2e-2")
    prompts = folder / "general.txt"
    folder.mkdir(parents=True)
    prompts.write_text("a dog\nthe big dog\n")
    began = time.process_time()
    command(
        ["finetune", base, "--data", data, "--out", run, "--steps", STEPS, "--batch", 8, "--resolution", side, *words,
         "--lr", rate, "--ema", 0.9, "--warmup", 0, "--sample-every", STEPS,
         "--sample-steps", 1, "--general-prompts", prompts, "--prompt", "a dog", "--no-report"]
    )  # fmt: skip
    word = name == "textual inversion"
    prompt = "a <mine> on white" if word else "a red circle on white"
    expected = trained(run, prompt, side)
    if word:
        opened = open_base(str(base))
        stored = load_file(run / "embedding" / "learned_embeds.safetensors")
        for key, number in (("<mine>", ""), ("clip_l", ""), ("clip_g", "_2")):  # XL's file holds two
            if key in stored:
                parts = {part: getattr(opened, f"{part}{number}") for part in ("text_encoder", "tokenizer")}
                opened.load_textual_inversion({"<mine>": stored[key]}, token="<mine>", **parts)
    else:
        command(["export", run, "--out", out, "--dtype", "float32"])
        opened = DiffusionPipeline.from_pretrained(out, trust_remote_code=True)
    gap = float((picture(opened, prompt, side) - expected).abs().max())
    moved = float((expected - picture(open_base(str(base)), prompt, side)).abs().max())
    losses = probes_of(run)
    falls = [f"{losses[0][part]:.3f} → {losses[-1][part]:.3f}" for part in ("domain", "general")]
    good = gap <= MOST < moved
    seconds = time.process_time() - began
    return f"{falls[0]} | {falls[1]} | {moved:.3f} | {gap:.1e} | {'yes' if good else 'NO'} | {seconds:.0f} |", good


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--methods", nargs="+", choices=METHODS | KEPT | TEXT, default=list(METHODS | KEPT | TEXT))
    parser.add_argument("--out", type=Path, help="keep bases and runs here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        data = tiny.write_pictures(folder / "pictures", 24, side=32)
        columns = "base", "method", "loss on held-out pictures", "general", "picture moved", "differs", "same", "CPU s"
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for number, kind in enumerate(options.only):
            base = BASES[kind](folder / f"base-{number}")
            stir(base)
            methods = METHODS | (KEPT if kind in ("sd", "flux2") else {})
            if kind in ("sd", "sdxl"):
                methods |= TEXT
            if kind == "own":
                del methods["full"]
            methods = {name: words for name, words in methods.items() if name in options.methods}
            for turn, (name, words) in enumerate(methods.items()):
                try:
                    line, good = row(base, name, words, data, folder / f"{number}-{turn}", kind)
                except Exception as e:  # the other rows are worth having
                    line, good = f"{type(e).__name__}: {' '.join(str(e).split())[-300:]} | | | | NO | |", False
                wrong += not good
                print(f"| {kind} | {name} | {line}", flush=True)
    sys.exit(f"{wrong} pictures differ" if wrong else None)


if __name__ == "__main__":
    main()
