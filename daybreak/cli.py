"""The command line: one function a subcommand; no logic."""

from __future__ import annotations

import atexit
import gc
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from daybreak import __version__
from daybreak.commands.flags import with_settings
from daybreak.config import BudgetConfig, ConfigError
from daybreak.files import check_empty
from daybreak.launch.settings import LaunchSettings
from daybreak.model_folder import model_folder
from daybreak.run_folder import check_there, stored_averages, trained_config
from daybreak.serve.settings import ServeSettings

app = typer.Typer(
    name="daybreak",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Trains a text-to-image model in a day: from your own pictures to a served model.\n\n"
    "Start with [bold]daybreak demo[/bold]: it trains a small model before your eyes and draws your first pictures.",
)
console = Console()

LINES = "Line breaks: part of the caption (whole), between several (lines), or its end (first)."
ENGINE = "processes, or ray: the same on a Ray cluster."
MODEL_WORKERS = (
    "Each loads the model, and takes a GPU where there are any. 0: this process alone. "
    "Default: all GPUs; without any, this process (on Ray, one a machine)."
)
MODEL = typer.Argument(parser=model_folder, metavar="RUN", help="Run folder, or scenes: the model in the box.")
EXPAND = typer.Option(
    help="Who writes out what a prompt leaves open: scenes (rules), a chat model, or an address of OpenAI's chat API; "
    "none: nobody; default: as the run has it."
)
ANY_SETTING = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Of a command that takes --section.field VALUE: which fields there are is not the parser's to know."""

TRAIN_HELP = """Train a model by a recipe.

[bold]Recipes[/bold]

scenes        the embedded world at 32 px, minutes on a CPU

scenes-demo   the embedded world as daybreak demo trains it on a CPU: a small model that follows its prompts

scenes-box    the model that the package carries: fifty minutes, convolutions in place of patches

scenes-gpu    the embedded world at 128 px, minutes on one GPU

scenes-stack  every part of the 24-hour recipe on the embedded world, 32 then 64 px, minutes on a CPU

folder        your own captioned pictures at 64 px (with --data)

speedrun      the published 24-hour recipe: 1.24 B parameters, 512 then 1024 px (with --data)

speedrun2     the speedrun with what was measured to help (docs/speedrun2.md; with --data)

minit2i       MiniT2I-B/16: 258 M parameters, text and image in two streams, 512 px (with --data)

[bold]Variants[/bold] follow a recipe's name after a plus, as in [cyan]scenes+tread+repa[/cyan]: tread, sprint, repa,
repa-early (for the first two fifths), irepa, lpips, dino, stack (TREAD, REPA, LPIPS and DINO at once), adamw, normuon,
polar-express, no-ema, shared-adaln, text-blocks, contrastive, velocity; of scenes-demo: short-captions, convolutions,
no-repa, no-text-convolutions, no-pooled-text, no-grounding.

[bold]Settings[/bold]: every field of the configuration can be set by its name, for example
[cyan]--train.minutes 20 --model.depth 8[/cyan]; [bold]daybreak settings RECIPE[/bold] lists them with what they mean.
A YAML file with the same sections goes in with --config; the command line wins over it.

[bold]Data[/bold]: --data takes a Hugging Face ImageFolder (metadata.jsonl or metadata.csv with file_name and text), or
a folder of pictures with a .txt beside each, or shards that [bold]daybreak prepare[/bold] made, also at an address such
as s3://; given several times, sets of shards are mixed.

[bold]Examples[/bold]

daybreak train scenes --train.minutes 20

daybreak train folder --data my-pictures --out runs/mine --data.resolution 128

daybreak train --resume runs/mine

daybreak train scenes --deadline 10min

torchrun --nproc-per-node 8 -m daybreak train speedrun --data shards --out runs/day --resume auto --budget 1500usd
--price 2.0/gpu-hour
"""


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Shared by all commands."""
    if version:
        print(f"daybreak {__version__}")
        raise typer.Exit()


@app.command()
def demo(
    minutes: Annotated[float, typer.Option(min=0.05, help="Training time; drawing and judging come on top.")] = 8.0,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: a new one in runs/.")] = None,
) -> None:
    """Train a small model of the embedded world before your eyes, then see what it draws and how well it listens.

    Needs no download and no GPU; where a CUDA GPU is present it is used, at a larger size.
    """
    if out is not None:
        check_empty(out)  # a mistake is told before torch loads, here and in all that follows
    from daybreak.commands.demo import run_demo

    run_demo(console, minutes, out)


@app.command(
    help=TRAIN_HELP,
    context_settings=ANY_SETTING,
    options_metavar="RECIPE [--section.field VALUE ...] [OPTIONS]",
)
@with_settings
def train(
    context: typer.Context,  # the recipe and the settings: click would take a setting's value for an argument
    limits: BudgetConfig,
    data: Annotated[
        list[str] | None, typer.Option(help="Folder of captioned pictures, or of prepared shards; several shards mix.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: a new one in runs/.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings over the recipe's.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|auto", help="Run folder to continue; auto: the one of --out, if there is any."),
    ] = None,
) -> None:
    """See TRAIN_HELP."""
    from daybreak.arguments import asked_training

    asked = asked_training(context.args, data or [], out, config, resume, limits)
    from daybreak.commands.train import run_train

    run_train(console, asked)


FINETUNE_HELP = """Fine-tune Stable Diffusion, a relative of it, or a run of our own on your pictures.

[bold]BASE[/bold]: a hub id, a diffusers folder (Stable Diffusion 1, 2, XL, 3, FLUX.1, PRX), a single .safetensors file,
or a run folder of daybreak train. [bold]--data[/bold]: 500 to 10,000 captioned pictures, as daybreak train takes them.

[bold]--method[/bold] full, lora, dora or textual-inversion (with --token). DreamBooth is --instance-prompt and
--class-prompt with any of them.

Prints what it takes of memory and what is wrong with the pictures, trains, and leaves a diffusers folder (full), LoRA
files for diffusers, ComfyUI and A1111, or an embedding. daybreak sample, evaluate, export, serve and compare-blind take
the run folder.

[bold]Examples[/bold]

daybreak finetune stable-diffusion-v1-5/stable-diffusion-v1-5 --data my-pictures --deadline 24h --out runs/mine

daybreak finetune my/model --data my-pictures --method lora --rank 32 --prompt "a cat in my style"

daybreak finetune my/model --data dog --instance-prompt "a photo of sks dog" --class-prompt "a photo of a dog"

daybreak finetune --resume runs/mine
"""


@app.command(help=FINETUNE_HELP)
def finetune(
    base: Annotated[str | None, typer.Argument(help="What to start from.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of captioned pictures, or prepared shards.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: a new one in runs/.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to continue, in place of a base.")] = None,
    method: Annotated[Literal["full", "lora", "dora", "textual-inversion"], typer.Option()] = "full",
    rank: Annotated[int, typer.Option(help="Of LoRA and DoRA.")] = 16,
    alpha: Annotated[float | None, typer.Option(help="LoRA's scale is alpha / rank; default: 1.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Layers that LoRA adapts, such as to_k.")] = None,
    token: Annotated[str | None, typer.Option(help="Textual inversion: the new word, such as <mine>.")] = None,
    init_word: Annotated[str | None, typer.Option(help="Textual inversion: the word it starts from.")] = None,
    vectors: Annotated[int, typer.Option(help="Textual inversion: embeddings of the new word.")] = 1,
    train_text_encoder: Annotated[bool, typer.Option("--train-text-encoder", help="Train it along.")] = False,
    text_lr: Annotated[float | None, typer.Option(help="Of the text encoder; default: --lr.")] = None,
    instance_prompt: Annotated[str | None, typer.Option(help="DreamBooth: the caption of every picture.")] = None,
    class_prompt: Annotated[str | None, typer.Option(help="DreamBooth: the class to be preserved.")] = None,
    class_data: Annotated[str | None, typer.Option(help="DreamBooth: its pictures; default: drawn.")] = None,
    class_count: Annotated[int, typer.Option(help="DreamBooth: pictures that are drawn.")] = 200,
    prior_weight: Annotated[float, typer.Option(min=0, help="DreamBooth: weight of the class.")] = 1.0,
    resolution: Annotated[int | None, typer.Option(help="Side of the pictures, px; default: the base's.")] = None,
    captions: Annotated[Literal["whole", "lines", "first"], typer.Option(help=LINES)] = "whole",
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the pictures.")] = False,
    held_out: Annotated[float, typer.Option(help="Share of the pictures kept to measure with.")] = 0.1,
    lr: Annotated[float | None, typer.Option(help="Default: 5e-6 full, 1e-4 LoRA, 5e-3 textual inversion.")] = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Find a learning rate in place of training.")] = False,
    warmup: Annotated[int, typer.Option(help="Steps over which the learning rate rises.")] = 20,
    decay: Annotated[float, typer.Option(help="Last share of the run over which it falls to zero.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.01,
    adam_8bit: Annotated[bool, typer.Option("--adam-8bit", help="Adam's moments in 8 bits.")] = False,
    clip_norm: Annotated[float, typer.Option(help="Gradients are scaled down to this norm.")] = 1.0,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    micro_batch: Annotated[int | None, typer.Option(help="Pictures at once; default: what fits into memory.")] = None,
    epochs: Annotated[float, typer.Option(help="Times that each picture is seen.")] = 10.0,
    steps: Annotated[int | None, typer.Option(help="In place of --epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Most minutes of training.")] = None,
    deadline: Annotated[str | None, typer.Option(help="When all is over, report included: 24h, 90m.")] = None,
    drop_captions: Annotated[float, typer.Option(help="Share dropped, for guidance.")] = 0.1,
    min_snr: Annotated[float | None, typer.Option(help="Gamma of min-SNR weighting; 5 is usual.")] = None,
    offset_noise: Annotated[float, typer.Option(min=0, help="0.05 is usual; learns dark and bright pictures.")] = 0.0,
    zero_snr: Annotated[bool, typer.Option("--zero-snr", help="End in pure noise; for v-prediction.")] = False,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0: none.")] = 0.999,
    precision: Annotated[Literal["auto", "float32", "bfloat16", "float16"], typer.Option()] = "auto",
    recompute: Annotated[
        bool | None, typer.Option("--recompute/--no-recompute", help="Activations again; default: where memory asks.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="Drawn during training; several times.")] = None,
    general_prompts: Annotated[Path | None, typer.Option(help="What must not be forgotten: a prompt a line.")] = None,
    sample_every: Annotated[int, typer.Option(help="Steps between samples.")] = 100,
    sampler: Annotated[Literal["ddim", "dpm", "euler", "unipc"], typer.Option()] = "dpm",
    sample_steps: Annotated[int, typer.Option()] = 25,
    guidance: Annotated[float, typer.Option(min=0)] = 7.5,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 500,
    report: Annotated[bool, typer.Option(help="Compare with the base when training is over.")] = True,
    report_pictures: Annotated[int, typer.Option(min=2, help="Drawn for the report's metrics.")] = 200,
    weights: Annotated[list[str] | None, typer.Option(help="NAME=FILE or FOLDER of the metrics' networks.")] = None,
    tracker: Annotated[list[str] | None, typer.Option(help="wandb or mlflow, beside TensorBoard.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    base_config: Annotated[str | None, typer.Option(help="Of a single-file base: folder with its settings.")] = None,
    variant: Annotated[str | None, typer.Option(help="Which of the base's weight files, such as fp16.")] = None,
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="Read .bin and .ckpt weights too.")] = False,
) -> None:
    """See FINETUNE_HELP."""
    from daybreak.finetune.asked import check_finetune, run_to_resume
    from daybreak.finetune.settings import FinetuneSettings, parse_duration, read_lines
    from daybreak.model_folder import is_own

    if resume is not None or base is None or data is None:
        run = run_to_resume(resume, base, data, out)
        from daybreak.commands.finetune import resume_finetune

        resume_finetune(console, run)
        return
    base = str(model_folder(base))
    settings = FinetuneSettings(
        base=base,
        data=data,
        base_config=base_config,
        variant=variant,
        allow_pickle=allow_pickle,
        method=method,
        rank=rank,
        alpha=alpha,
        targets=tuple(target or ()),
        token=token,
        init_word=init_word,
        vectors=vectors,
        train_text_encoder=train_text_encoder,
        text_lr=text_lr,
        instance_prompt=instance_prompt,
        class_prompt=class_prompt,
        class_data=class_data,
        class_count=class_count,
        prior_weight=prior_weight,
        resolution=resolution,
        captions=captions,
        flip=flip,
        held_out=held_out,
        lr=lr,
        warmup_steps=warmup,
        decay_share=decay,
        weight_decay=weight_decay,
        adam_8bit=adam_8bit,
        clip_norm=clip_norm,
        batch=batch,
        micro_batch=micro_batch,
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        deadline_minutes=parse_duration(deadline, "--deadline") if deadline else None,
        drop_captions=drop_captions,
        min_snr=min_snr,
        offset_noise=offset_noise,
        zero_snr=zero_snr,
        ema=ema,
        precision=precision,
        recompute=recompute,
        seed=seed,
        prompts=tuple(prompt or ()),
        general_prompts=read_lines(general_prompts, "--general-prompts"),
        sample_every=sample_every,
        sampler=sampler,
        sample_steps=sample_steps,
        guidance=guidance,
        save_every=save_every,
        report=report,
        report_pictures=report_pictures,
        metric_weights=tuple(weights or ()),
        trackers=tuple(tracker or ()),
    )
    check_finetune(settings, out, find_lr)
    if is_own(base):
        from daybreak.commands.finetune_own import finetune_own

        finetune_own(console, settings, out, find_lr)
        return
    from daybreak.commands.finetune import run_finetune

    run_finetune(console, settings, out, find_lr=find_lr)


@app.command()
def sample(
    run: Annotated[Path, MODEL],
    prompt: Annotated[list[str], typer.Option(help="What to draw; give it several times for several pictures.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("grid.png"),
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Sampler steps; default: the run's.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance; 1 is none; default: the run's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pictures.")] = 0,
    size: Annotated[int | None, typer.Option(min=8, help="Side, px; default: the training size.")] = None,
    expand: Annotated[str | None, EXPAND] = None,
) -> None:
    """Draw pictures with a trained model, or with what was exported of one: one PNG, each picture above its prompt."""
    check_there(run)
    from daybreak.evaluate.request import Drawing, check_sample

    drawing = Drawing(seed, steps, guidance, size, None, expand)
    check_sample(run, out, drawing)
    from daybreak.commands.sample import run_sample

    run_sample(console, run, prompt, out, drawing)


EVALUATE_HELP = """Judge models and pictures, by numbers and by eye.

[bold]Subject[/bold]: a run folder, a folder of pictures, or a diffusers pipeline (folder or hub id). Several are
compared in one page.

[bold]Metrics[/bold] (--metrics, with commas)

fid, kid, cmmd, fd_dinov2, dino_mmd   distance to --reference pictures; is: the Inception score, without any

clipscore, geneval, vqa               does it follow its prompts; vqa asks the --questions of a file such as DPG-Bench's

geneval_rewritten                     with prompts that a language model has made longer

scenes                                the same for the embedded world, read from the pixels

day_check                             FID within 10 % of the --baseline's, and a contact sheet of a hundred pictures

memorised                             are the nearest --training pictures too near

[bold]Examples[/bold]

daybreak evaluate runs/mine

daybreak evaluate runs/mine --metrics fid,kid,clipscore --reference held-out-pictures

daybreak evaluate my/model --metrics geneval --weights mask2former=FOLDER --weights clip=FOLDER

torchrun --nproc-per-node 8 -m daybreak evaluate runs/mine --metrics geneval
"""


@app.command(help=EVALUATE_HELP)
def evaluate(
    subjects: Annotated[list[str], typer.Argument(help="Run folder, folder of pictures, or diffusers pipeline.")],
    metrics: Annotated[str | None, typer.Option(help="What to measure; default: what the subject allows.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Real pictures, best such that training never saw.")] = None,
    prompts: Annotated[Path | None, typer.Option(help=".txt or .jsonl; default: the reference's captions.")] = None,
    count: Annotated[int, typer.Option(min=2, help="Pictures to draw for comparison with the reference.")] = 1000,
    training: Annotated[Path | None, typer.Option(help="Training pictures; default: the run's.")] = None,
    baseline: Annotated[str | None, typer.Option(help="What day_check compares with: as a subject.")] = None,
    questions: Annotated[Path | None, typer.Option(help="Questions of vqa: CSV as DPG-Bench's.")] = None,
    geneval_prompts: Annotated[Path | None, typer.Option(help="GenEval's evaluation_metadata.jsonl.")] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE, FOLDER or hub id, in place of a download.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Sampler steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance; default: the model's.")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="Side of the pictures, px; default: the model's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed draws the same pictures.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures drawn at once.")] = None,
    expand: Annotated[str | None, EXPAND] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default: the run's, or one in evaluations/.")
    ] = None,
) -> None:
    """See EVALUATE_HELP."""
    from daybreak.evaluate.measures import parse_metrics
    from daybreak.evaluate.request import Drawing, Request, check_subject, parse_weights

    request = Request(
        metrics=parse_metrics(metrics) if metrics is not None else (),
        reference=reference,
        prompts=prompts,
        count=count,
        training=training,
        baseline=baseline,
        questions=questions,
        geneval_prompts=geneval_prompts,
        weights=parse_weights(weights or []),
        drawing=Drawing(seed, steps, guidance, size, batch, expand),
    )
    for subject in subjects:
        check_subject(subject, request)
    from daybreak.commands.evaluate import run_evaluate

    run_evaluate(console, subjects, request, out)


@app.command()
def average(
    run: Annotated[Path, typer.Argument(help="Run folder, trained with --train.posthoc_ema.")],
    length: Annotated[float, typer.Option(help="Relative length of the average, 0.01 to 0.25.")],
    out: Annotated[Path, typer.Option(help="Run folder to write: sample and evaluate it as any other.")],
) -> None:
    """Choose the length of the weights' average after training (post-hoc EMA)."""
    check_there(run)
    check_empty(out)
    stored_averages(run, length)
    from daybreak.commands.average import run_average

    run_average(console, run, length, out)


@app.command()
def teach(
    data: Annotated[
        list[str] | None,
        typer.Option(help="Folder of captioned pictures, or of prepared shards; default: the embedded world."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")] = Path("teacher.safetensors"),
    resolution: Annotated[
        int | None, typer.Option(min=32, help="Side at which the pictures of --data are read, px; default: 64.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of 96 pictures.")] = 360,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a small vision teacher of your pictures, self-supervised: no caption is read, nothing is downloaded.

    A run learns from it by --alignment.weight 0.5 --alignment.teacher FILE (REPA), or by --perceptual.dino_teacher and
    --perceptual.lpips_network. Without --data it is the package's own of the embedded world (teacher embedded), anew.
    """
    from daybreak.arguments import asked_teacher

    config = asked_teacher(data or [], out, resolution, seed)
    from daybreak.commands.teach import run_teach

    run_teach(console, config, out, steps)


@app.command(
    context_settings=ANY_SETTING,
    options_metavar="RECIPE [--section.field VALUE ...] [OPTIONS]",
)
@with_settings
def plan(
    context: typer.Context,
    limits: BudgetConfig,
    text_tokens: Annotated[
        int | None, typer.Option(min=1, help="Length of a caption; default: the longest read.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="a100, h100, h200, b200, mi300x, l40s, 4090, or cpu: this one. Default: h200."),
    ] = None,
    node: Annotated[int | None, typer.Option(min=1, help="GPUs of a node; default: 8, or all.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A run on such GPUs, whose speed is gone by; default: an estimate.")
    ] = None,
) -> None:
    """Show what a recipe takes before it runs: parameters, FLOPs, and on so many GPUs speed, memory, time and cost.

    [bold]Examples[/bold]

    daybreak plan speedrun --gpus 32 --gpu h200 --price 2.0 --deadline 24h

    daybreak plan scenes --gpu cpu --calibration runs/mine
    """
    from daybreak.arguments import asked_plan

    config = asked_plan(context.args, gpu, calibration, limits)
    from daybreak.commands.plan import run_plan

    run_plan(console, config, text_tokens, gpu, node, calibration, limits)


@app.command(
    context_settings=ANY_SETTING,
    options_metavar="RECIPE --out RUN [--section.field VALUE ...] [OPTIONS]",
)
@with_settings
def launch(
    context: typer.Context,
    settings: LaunchSettings,
    limits: BudgetConfig,
    out: Annotated[Path, typer.Option(help="Run folder, where all nodes see it.")],
    data: Annotated[list[str] | None, typer.Option(help="As for daybreak train.")] = None,
) -> None:
    """Write the job that trains on many GPUs: a torchrun script, a SLURM script, a SkyPilot task, a PyTorchJob.

    A lost process or node is started again and goes on from the last checkpoint.

    [bold]Examples[/bold]

    daybreak launch speedrun --data shards --out runs/day --to slurm --nodes 4 --gpus 8 --deadline 24h --submit
    """
    from daybreak.commands.launch import run_launch

    code = run_launch(console, context.args, settings, limits, data or [], out)
    raise typer.Exit(code)


@app.command()
def status(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Say where a run stands: progress, losses, speed, time left, cost, checkpoints."""
    from daybreak.commands.status import show_status

    show_status(console, run)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.")],
    out: Annotated[Path, typer.Option(help="The PNG with the losses to write.")] = Path("compare.png"),
) -> None:
    """Put runs beside each other: a table, the settings in which they differ, and a plot of their losses."""
    from daybreak.commands.compare import show_comparison

    show_comparison(console, runs, out)


@app.command(
    context_settings=ANY_SETTING,
    options_metavar="RECIPE ... [--section.field VALUE ...] [OPTIONS]",
)
def ablate(
    context: typer.Context,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each recipe, with seeds 0, 1, ...")] = 3,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Equal training time for all, minutes.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Equal steps for all, in place of equal time.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write, or one to go on with.")] = None,
    pictures: Annotated[int, typer.Option(min=2, help="Pictures behind the Fréchet distance (on scenes).")] = 1000,
    charge_teacher: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds that recipes with a teacher of daybreak teach train less; default: its file says."
        ),
    ] = None,
) -> None:
    """Compare recipes and their variants at equal time or equal steps, over seeds: table, CSV, plot.

    The first recipe is the baseline. Each run is a process of its own, one after another; one that crashes is told in
    the table. The same command goes on where it was interrupted; more recipes or seeds can be added to it. Settings
    hold for all recipes.

    [bold]Examples[/bold]

    daybreak ablate scenes scenes+tread scenes+repa --seeds 3 --minutes 1 --out runs/routing

    daybreak ablate scenes scenes+adamw --steps 300 --model.depth 6
    """
    from daybreak.commands.ablate import run_ablate

    run_ablate(console, context.args, seeds, minutes, steps, out, pictures, charge_teacher)


@app.command()
def compare_blind(
    contestants: Annotated[list[Path] | None, typer.Argument(help="Two or more folders of pictures, or runs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison: a new one, or one to go on with.")] = None,
    results: Annotated[Path | None, typer.Option(help="Tell the results of the comparison in this folder.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="What runs draw: a prompt a line, or .jsonl with text.")] = None,
    questions: Annotated[
        str | None, typer.Option(help="Some of overall,prompt,realism, with commas; default: overall.")
    ] = None,
    voters: Annotated[int, typer.Option(min=1, max=1000, help="People who vote; each gets a link.")] = 1,
    pairs: Annotated[int | None, typer.Option(min=1, help="Most pairs a voter sees; default: all.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of order, sides, and the noise that runs draw from; default: 0.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to serve at; 0: any free one; default: 8710.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="What links start with, where voters come through a proxy.")] = None,
) -> None:
    """Let people say which model is better, on a page that does not tell them which is which.

    Pictures belong together by the prompt that prompts.jsonl or metadata.jsonl (file_name, text) gives them, else by
    file name; runs draw theirs first, from the same noise. Prints a link for each voter. Votes survive a crash; the
    same command goes on. --results DIR gives win rates, Bradley–Terry scores and agreement, as tables, CSV and a page.

    [bold]Examples[/bold]

    daybreak compare-blind samples/old samples/new --voters 3 --out blind/new-vs-old

    daybreak compare-blind runs/a runs/b --prompts prompts.txt --questions overall,prompt

    daybreak compare-blind --results blind/new-vs-old
    """
    from daybreak.commands.compare_blind import run_compare_blind

    run_compare_blind(
        console, contestants or [], out, results, prompts, questions, voters, pairs, seed, host, port, url
    )


@app.command()
def prepare(
    source: Annotated[
        list[str], typer.Argument(help="Folders, files or addresses (s3://, gs://, hf://); several mix.")
    ],
    out: Annotated[str, typer.Option(help="Folder or address for the shards.")],
    size: Annotated[int, typer.Option(help="Side of the square whose area pictures are brought to, px.")] = 1024,
    patch: Annotated[int, typer.Option(help="Every side becomes a multiple of this, px.")] = 32,
    max_ratio: Annotated[float, typer.Option(help="Widest shape, width over height; 1 crops to squares.")] = 2.0,
    min_side: Annotated[int | None, typer.Option(help="Drop pictures below it, px; default: half of --size.")] = None,
    encoding: Annotated[str, typer.Option(help="jpeg, webp or png.")] = "jpeg",
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP.")] = 92,
    caption: Annotated[list[str] | None, typer.Option(help="Caption column, or COLUMN=WEIGHT; several times.")] = None,
    captions: Annotated[Literal["whole", "lines", "first"], typer.Option(help=LINES)] = "whole",
    image_column: Annotated[str | None, typer.Option(help="Column with pictures, paths or addresses.")] = None,
    image_key: Annotated[str | None, typer.Option(help="Of a tar: the picture's extension, as in left.jpg.")] = None,
    uncaptioned: Annotated[bool, typer.Option(help="Keep pictures without caption, for daybreak caption.")] = False,
    duplicates: Annotated[str, typer.Option(help="drop; exact: only identical files go; keep.")] = "drop",
    shard_mb: Annotated[float, typer.Option(help="Size of a shard, MB.")] = 256.0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0: none beside this. Default: cores (of the cluster).")
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE)] = "processes",
    work: Annotated[Path | None, typer.Option(help="Folder for unfinished work; default: in OUT.")] = None,
    embed: Annotated[
        str | None, typer.Option(help="Text encoder: then also daybreak embed with it, on the same --engine.")
    ] = None,
) -> None:
    """Bring captioned pictures of any kind into training shards, and list what is wrong with the rest.

    A source is an ImageFolder (metadata.jsonl, .csv or .parquet), pictures with a .txt beside each, WebDataset .tar
    files, Parquet or Arrow files as the Hugging Face hub has them, or a CSV or JSONL file of paths or addresses. What
    is dropped stands in OUT/dropped.jsonl with its reason. Killed, the same command goes on where it stopped.
    """
    from daybreak.commands.prepare import run_prepare

    run_prepare(
        console,
        source,
        out,
        {
            "size": size,
            "patch": patch,
            "max_ratio": max_ratio,
            "min_side": min_side,
            "encoding": encoding,
            "quality": quality,
            "image_column": image_column,
            "image_key": image_key,
            "lines": captions,
            "uncaptioned": uncaptioned,
            "duplicates": duplicates,
            "shard_mb": shard_mb,
        },
        caption or [],
        workers,
        engine,
        work,
        embed,
    )


@app.command()
def inspect(
    place: Annotated[str, typer.Argument(metavar="SOURCE|SHARDS", help="What prepare takes, or what it made.")],
    page: Annotated[Path | None, typer.Option(help="The HTML page to write; default: inspect-NAME.html here.")] = None,
    size: Annotated[int, typer.Option(help="Of a source: as it would be prepared, px.")] = 1024,
    patch: Annotated[int, typer.Option(help="Of a source: as it would be prepared, px.")] = 32,
    caption: Annotated[list[str] | None, typer.Option(help="Of a source: caption column; several times.")] = None,
    captions: Annotated[Literal["whole", "lines", "first"], typer.Option(help=LINES)] = "whole",
    image_column: Annotated[str | None, typer.Option(help="Of a source: column with the pictures.")] = None,
    image_key: Annotated[str | None, typer.Option(help="Of a tar: the picture's extension, as in left.jpg.")] = None,
    uncaptioned: Annotated[bool, typer.Option(help="Of a source: look at pictures without caption too.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="Count tokens with this model's; default: an estimate.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The text encoder's limit; 77 for Stable Diffusion's.")] = 256,
    strict: Annotated[bool, typer.Option(help="Leave with exit code 1 where there are errors.")] = False,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0: none beside this. Default: cores.")] = None,
) -> None:
    """Say what is wrong with a data set, why it matters and what to do; with one page of pictures and figures."""
    from daybreak.commands.inspect import run_inspect

    options = {"size": size, "patch": patch, "image_column": image_column, "image_key": image_key, "lines": captions,
               "uncaptioned": uncaptioned}  # fmt: skip
    if run_inspect(console, place, page, options, caption or [], tokenizer, max_tokens, strict, workers):
        raise typer.Exit(1)


@app.command(
    context_settings=ANY_SETTING,
    options_metavar="RUN [--section.field VALUE ...] [OPTIONS]",
)
def distill(
    context: typer.Context,
    steps: Annotated[int, typer.Option(min=1, max=64, help="Steps in which the new model draws.")] = 4,
    minutes: Annotated[float, typer.Option(min=0.01, help="Training time, minutes.")] = 5.0,
    out: Annotated[Path | None, typer.Option(help="Run folder to write.")] = None,
) -> None:
    """Train a student of a run that draws in few steps, without guidance: 4 in place of 48 passes of the network.

    Multistep consistency distillation. The result is a run as any other; a table tells it from its teacher.
    """
    from daybreak.distill.student import asked_distillation

    asked = asked_distillation(context.args, steps, minutes, out)
    from daybreak.commands.distill import run_distill

    run_distill(console, asked)


@app.command()
def export(
    run: Annotated[Path, MODEL],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    to: Annotated[
        Literal["diffusers", "safetensors"],
        typer.Option(help="diffusers: a folder that diffusers loads. safetensors: plain weights under our names."),
    ] = "diffusers",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Number format of the weights.")
    ] = "float32",
    license: Annotated[str | None, typer.Option(help="The model's licence for the card, such as apache-2.0.")] = None,
    data_license: Annotated[str | None, typer.Option(help="The training data's licence for the card.")] = None,
    ema: Annotated[
        float | None, typer.Option(help="Relative length of the average, 0.01 to 0.25 (--train.posthoc_ema).")
    ] = None,
) -> None:
    """Write a run's averaged model as a folder for others, with a model card.

    A diffusers folder loads with DiffusionPipeline.from_pretrained, without daybreak, and draws the same pictures. What
    diffusers has no class for (convolutions, grounding, sprint, ...) brings its code along: trust_remote_code=True.
    """
    from daybreak.commands.export import run_export
    from daybreak.export.licences import Licences

    run_export(console, run, to, out, dtype, Licences(license, data_license), ema)


@app.command(name="import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder that daybreak export or PRXPixelPipeline wrote.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    data: Annotated[Path | None, typer.Option(help="Folder of captioned pictures to train on.")] = None,
) -> None:
    """Make a run of an exported model, as a start for training: daybreak train --resume RUN."""
    from daybreak.commands.export import run_import

    run_import(console, folder, out, data)


@app.command()
def shrink(
    run: Annotated[Path, MODEL],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    to: Annotated[
        Literal["int8", "int8-dynamic", "fp8"],
        typer.Option(
            help="int8: 8-bit weights. int8-dynamic: 8-bit arithmetic too. fp8: the same on GPUs that have it."
        ),
    ] = "int8",
) -> None:
    """Write a run's averaged model in 8 bits, and say what that changed: size, speed, memory, score, pictures.

    daybreak serve draws with the folder.
    """
    check_there(run)
    check_empty(out)
    trained_config(run)
    from daybreak.export.shrink import run_shrink

    run_shrink(console, run, to, out)


@app.command()
@with_settings
def serve(
    settings: ServeSettings,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Run folders, exported folders or diffusers pipelines; NAME=FOLDER names one."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Let others in without keys.")] = False,
) -> None:
    """Serve models over HTTP: a page at /, and OpenAI's image API at /v1/images/generations.

    Requests are drawn together as they come. SIGTERM ends the server once every accepted request is answered.
    """
    from daybreak.commands.serve import run_serve

    run_serve(console, models, host, port, settings, anonymous)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Who the key is for.")],
    file: Annotated[Path, typer.Option(help="File that keeps the hashes; give it to daybreak serve --keys.")] = Path(
        "keys.txt"
    ),
    rate: Annotated[float | None, typer.Option(min=0.01, help="Pictures a minute; default: the server's.")] = None,
) -> None:
    """Make an API key for daybreak serve: shown once, kept as a hash."""
    from daybreak.commands.serve import run_key

    run_key(console, name, file, rate)


@app.command()
def embed(
    shards: Annotated[str, typer.Argument(help="What daybreak prepare made.")],
    model: Annotated[str, typer.Option(help="Text encoder: its name or folder, as text.pretrained.")],
    max_tokens: Annotated[int, typer.Option(min=2, help="Longer captions are cut; as text.max_tokens.")] = 256,
    revision: Annotated[str | None, typer.Option(help="Of the encoder on the hub.")] = None,
    name: Annotated[str, typer.Option(help="Name of the features, for --data.embeddings.")] = "text",
    dtype: Annotated[str, typer.Option(help="bfloat16, or fp8 with a scale a token: half the size.")] = "bfloat16",
    batch: Annotated[int, typer.Option(min=1, help="Captions at once.")] = 64,
    cache: Annotated[Path | None, typer.Option(help="Local folder for shards at an address.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help=MODEL_WORKERS)] = None,
    engine: Annotated[str, typer.Option(help=ENGINE)] = "processes",
) -> None:
    """Encode all captions of shards once, with a frozen text encoder, so that training need not.

    Tokens are stored without padding. Killed, the same command goes on with the next shard.
    """
    from daybreak.commands.embed import run_embed
    from daybreak.config import TextConfig

    text = TextConfig(pretrained=model, revision=revision, max_tokens=max_tokens)
    run_embed(console, shards, text, name, dtype, batch, cache, workers, engine)


@app.command()
def caption(
    shards: Annotated[str, typer.Argument(help="What daybreak prepare made.")],
    model: Annotated[str, typer.Option(help="Vision-language model with a chat template: its name or folder.")],
    name: Annotated[str, typer.Option(help="Name of the new captions, beside those that are there.")] = "written",
    weight: Annotated[float, typer.Option(help="How often training takes them, beside the others' weights.")] = 1.0,
    prompt: Annotated[
        str | None, typer.Option(help="What the model is asked; default: two or three sentences.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest caption, tokens.")] = 160,
    revision: Annotated[str, typer.Option(help="Of the model on the hub.")] = "main",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 16,
    cache: Annotated[Path | None, typer.Option(help="Local folder for shards at an address.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help=MODEL_WORKERS)] = None,
    engine: Annotated[str, typer.Option(help=ENGINE)] = "processes",
) -> None:
    """Have a vision-language model write captions for shards; they join those that are there.

    Killed, the same command goes on with the next shard.
    """
    from daybreak.commands.caption import run_caption

    run_caption(console, shards, model, name, weight, prompt, max_tokens, revision, batch, cache, workers, engine)


@app.command()
def settings(recipe: Annotated[str, typer.Argument(help="Name of the recipe.")] = "scenes") -> None:
    """List every setting of a recipe: its name, its value, and what it means."""
    from daybreak.recipes.show import list_settings

    list_settings(console, recipe)


def quiet_dependencies() -> None:
    """Keeps from the terminal what torch tells of Enums that libraries register with it: no user can change that."""
    logging.getLogger("torch.utils._pytree").addFilter(lambda record: "Enum subclass" not in record.getMessage())


def entry() -> None:
    """The `daybreak` command: a user's mistake gives one line on stderr and exit code 2, never a traceback."""
    # At its end Python looks through every object that torch and transformers made, which takes more than a second.
    atexit.register(gc.freeze)
    quiet_dependencies()
    try:
        app()
    except ConfigError as e:
        _fail(e, code=2)
    except KeyboardInterrupt:
        _fail("interrupted", code=130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as e:
        from daybreak.train.guard import TrainingError

        if isinstance(e, TrainingError):
            _fail(e, code=1)
        raise


def _fail(message: Any, code: int) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/bold red] {escape(str(message))}", highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    entry()
