"""Fine-tuning end to end on a CPU: a small latent-diffusion base of one domain, brought to another one.

    python benchmarks/finetune_scenes.py --domain folder-of-captioned-pictures --out runs/finetune-scenes

Trains an AutoencoderKL on both domains' pictures, then, by `daybreak finetune` from random weights, a UNet and a CLIP
text model on scenes with one object; saves them as a StableDiffusionPipeline; fine-tunes that on the domain: whole, at
three learning rates, and by LoRA. Prints what the domain gained (loss on held-out pictures) beside what was forgotten
(loss on the base's own pictures of scene captions, and how far these drift), into table.md too, and draws the same
captions with all of them: side_by_side.png. Without --domain: scenes with two objects.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageOps
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from daybreak.commands.finetune import run_finetune
from daybreak.data.listing import list_items
from daybreak.data.scenes.source import ScenesSource
from daybreak.evaluate.grid import save_grid
from daybreak.evaluate.pictures import read_picture, save_pictures, write_captions
from daybreak.finetune.cache import to_tensor
from daybreak.finetune.drawing import draw
from daybreak.finetune.pictures import open_pictures
from daybreak.finetune.report import probes_of
from daybreak.finetune.result import open_pipeline
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.shapes import Shapes

SIDE = 32


def write_scenes(folder: Path, count: int, task: int, first: int) -> None:
    """Captioned scenes of one task as a folder of pictures."""
    weights = tuple(float(i == task) for i in range(6))
    batch = ScenesSource(SIDE, 0, weights).batch(first, count)
    folder.mkdir(parents=True)
    names = [f"{i:05d}.png" for i in range(count)]
    save_pictures(batch.images, [folder / n for n in names])
    write_captions(folder, names, batch.captions)


def write_part(source: Path, folder: Path, count: int) -> None:
    """`count` captioned pictures of a folder, evenly over it, at SIDE px."""
    items = [item for item in list_items(source) if item.caption]
    chosen = items[:: max(1, len(items) // count)][:count]
    folder.mkdir(parents=True)
    names = [f"{i:05d}.png" for i in range(len(chosen))]
    for name, item in zip(names, chosen, strict=True):
        ImageOps.fit(read_picture(item.path), (SIDE, SIDE), Image.Resampling.LANCZOS).save(folder / name)
    write_captions(folder, names, [item.caption for item in chosen])


def side_by_side(runs: dict[str, Path], captions: list[str], settings: FinetuneSettings, path: Path) -> None:
    """The same captions from the same noise, a row for each of `runs`."""
    pictures, titles = [], []
    for name, place in runs.items():
        pictures.append(draw(open_pipeline(str(place)), captions, settings, SIDE))
        titles += [f"{name}: {caption}" for caption in captions]
    save_grid(torch.cat(pictures), titles, path, columns=len(captions))


def train_vae(pixels: torch.Tensor, steps: int) -> AutoencoderKL:
    """Squared error and a little KL; the scale that brings latents to a deviation of 1 goes into its config."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(16, 32), layers_per_block=1, latent_channels=4, norm_num_groups=8, sample_size=SIDE,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        x = pixels[torch.randint(len(pixels), (16,))]
        posterior = vae.encode(x).latent_dist
        loss = functional.mse_loss(vae.decode(posterior.sample()).sample, x) + 1e-5 * posterior.kl().mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    with torch.no_grad():
        scale = 1 / vae.encode(pixels[:64]).latent_dist.sample().std().item()
    vae.register_to_config(scaling_factor=scale)
    print(f"autoencoder: squared error {loss.item():.4f} in [-1, 1], scaling factor {scale:.3f}", flush=True)
    return vae


def tokenizer_of(captions: list[str]) -> CLIPTokenizer:
    """CLIP's kind of byte-pair tokenizer over these captions."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<|startoftext|>", "<|endoftext|>"]
    bpe.train_from_iterator(
        captions, trainers.BpeTrainer(vocab_size=1500, special_tokens=special, end_of_word_suffix="</w>")
    )
    learnt = json.loads(bpe.to_str())["model"]
    return CLIPTokenizer(vocab=learnt["vocab"], merges=[tuple(m) for m in learnt["merges"]], model_max_length=32)


def random_pipeline(vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    """UNet and text model with random weights around the autoencoder."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64, attention_head_dim=16, norm_num_groups=8,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--domain", type=Path, help="folder of captioned pictures; default: scenes with two objects")
    parser.add_argument("--pictures", type=int, default=400, help="of each part")
    parser.add_argument("--vae-steps", type=int, default=300)
    parser.add_argument("--base-steps", type=int, default=800)
    parser.add_argument("--steps", type=int, default=120, help="of each fine-tuning")
    parser.add_argument("--lr", type=float, nargs=3, default=(2e-4, 1e-3, 2e-3), help="1e-6, 5e-6, 1e-5, scaled")
    parser.add_argument("--lora-lr", type=float, default=5e-3)
    parser.add_argument("--report", action="store_true", help="also write the report of the middle rate")
    o = parser.parse_args()
    began = time.process_time()
    general, domain = o.out / "scenes", o.out / "domain"
    write_scenes(general, o.pictures, 0, 0)
    if o.domain:
        write_part(o.domain, domain, o.pictures)
    else:
        write_scenes(domain, o.pictures, 1, 10**6)
    ours, theirs = (open_pictures(str(p), Shapes.squares(SIDE), (255, 255, 255)) for p in (general, domain))
    pixels = torch.cat([to_tensor(ours.pixels.array()), to_tensor(theirs.pixels.array())])
    vae = train_vae(pixels, o.vae_steps)
    random_pipeline(vae, tokenizer_of(ours.captions + theirs.captions)).save_pretrained(o.out / "random")
    print(f"{time.process_time() - began:.0f} s of CPU so far", flush=True)

    prompts = tuple(list(dict.fromkeys(ours.captions))[:12])
    shared = {"general_prompts": prompts, "sample_steps": 12, "guidance": 3.0, "report": False, "held_out": 0.08}
    console = Console(quiet=True)
    started = FinetuneSettings(
        base=str(o.out / "random"), data=str(general), lr=2e-3, train_text_encoder=True, steps=o.base_steps,
        decay_share=0.3, sample_every=o.base_steps, **shared,
    )  # fmt: skip
    run = run_finetune(console, started, o.out / "base")
    base = run.folder / "model"
    size, spent = run.base.trained.count() / 1e6, time.process_time() - began
    print(f"base: {size:.2f} M parameters, {spent:.0f} s of CPU", flush=True)

    table = [
        "| method | learning rate | loss on held-out domain | loss on general prompts | drift | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    runs = {"base": base}
    for method, lr in [*(("full", r) for r in o.lr), ("lora", o.lora_lr)]:
        since = time.process_time()
        name = f"{method} {lr:g}"
        settings = FinetuneSettings(
            base=str(base), data=str(domain), method=method, lr=lr, steps=o.steps, sample_every=max(1, o.steps // 2),
            **(shared | {"report": o.report and lr == o.lr[1], "report_pictures": 50}),
        )  # fmt: skip
        run = run_finetune(console, settings, o.out / name.replace(" ", "-"))
        runs[name] = run.folder
        last = probes_of(run.folder)[-1]
        cells = [
            f"{run.start[k]:.4f} → {last[k]:.4f} ({last[k] / run.start[k] - 1:+.1%})" for k in ("domain", "general")
        ]
        cells.append(f"{last['drift']:.2f}")
        table.append(f"| {method} | {lr:g} | {' | '.join(cells)} | {time.process_time() - since:.0f} |")
        print(table[-1], flush=True)
    (o.out / "table.md").write_text("\n".join(table) + "\n")
    held = [run.cache.captions[i] for i in run.cache.held_out]
    side_by_side(runs, [*held[:5], *prompts[:5]], started, o.out / "side_by_side.png")


if __name__ == "__main__":
    main()
