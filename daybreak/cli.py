"""The command line: one function a subcommand; no logic."""

from __future__ import annotations

import atexit
import faulthandler
import gc
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from daybreak import __version__
from daybreak.commands.flags import App, listed
from daybreak.commands.help import DATA, JUDGE, LOOK, MAKE, USE, Group
from daybreak.config import BudgetConfig, ConfigError
from daybreak.config.bounds import Bounds, Count, Flag, Natural, NotNegative, Typed
from daybreak.config.documentation import first_sentence
from daybreak.config.quantities import time_in
from daybreak.config.settings import AverageLength
from daybreak.data.prepare.settings import PrepareSettings
from daybreak.data.settings import CaptionSettings, Work
from daybreak.encoders.settings import EmbedSettings
from daybreak.evaluate.measures import METRICS
from daybreak.evaluate.request import Drawing, Request
from daybreak.export.licences import Licences
from daybreak.files import check_empty
from daybreak.finetune.settings import FinetuneSettings
from daybreak.launch.settings import LaunchSettings
from daybreak.library_messages import keep_messages, keeper
from daybreak.model_folder import Format, model_folder
from daybreak.phases import phase
from daybreak.plan.hardware import GPUS
from daybreak.prefer.settings import PreferSettings
from daybreak.recipes import RECIPES, VARIANTS
from daybreak.run_folder import check_there, stored_averages, trained_config
from daybreak.run_requests import Kind
from daybreak.serve.settings import LoadSettings, ServeSettings
from daybreak.terminal import showing_phases
from daybreak.track.rules import TRACKS
from daybreak.train.bell import Target
from daybreak.vote.settings import BlindSettings
from daybreak.watch.find import check_places

app = App(
    name="daybreak",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Trains a text-to-image model in a day: from your own pictures to a served model.\n\n"
    "Start with [bold]daybreak demo[/bold]: it trains a small model before your eyes and draws your first pictures.",
)
console = Console()

Run = Annotated[Path, Flag("RUN"), "Run folder."]
FolderOf = Typed(lambda text, _: model_folder(text), "RUN")
"""Names of the models in the box are known, too."""
Model = Annotated[Path, Flag("RUN"), FolderOf, "Run folder, or scenes: the model in the box."]
Out = Annotated[Path | None, "Run folder to write; default: a new one in runs/."]
Json = Annotated[bool, "Print the same as JSON, and nothing else."]
DataChanged = Annotated[bool, "Continue a run with pictures and captions that are not those it had before."]
FindLr = Annotated[bool, "Find a learning rate in place of training."]
Shards = Annotated[str, Flag("SHARDS"), "What daybreak prepare made."]
Data = Annotated[tuple[str, ...], "Folder of captioned pictures, or of prepared shards; several sets of shards mix."]
TRAIN_HELP = f"""Train a model by a recipe.

[bold]Recipes[/bold]
{listed({name: first_sentence(recipe) for name, recipe in RECIPES.items()})}

[bold]Variants[/bold] follow a recipe's name after a plus, as in [cyan]scenes+tread+repa[/cyan]
{listed({name: first_sentence(variant) for name, variant in VARIANTS.items()})}

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
torchrun --nproc-per-node 8 -m daybreak train speedrun --data shards --out runs/day --resume auto --budget 1500usd \
--price 2.0/gpu-hour
"""


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Shared by all commands."""
    if version:
        print(f"daybreak {__version__}")
        raise typer.Exit()


@app.command(panel=MAKE)
def demo(
    minutes: Annotated[float, Bounds(least=0.05), "Training time; drawing and judging come on top."] = 8.0,
    out: Out = None,
) -> None:
    """Train a small model of the embedded world before your eyes, then see what it draws and how well it listens.

    Needs no download and no GPU; where a CUDA GPU is present it is used, at a larger size.
    """
    if out is not None:
        check_empty(out)  # a mistake is told before torch loads, here and in all that follows
    with phase("loading"):
        from daybreak.commands.demo import run_demo

    run_demo(console, minutes, out)


@app.command(help=TRAIN_HELP, words="RECIPE", panel=MAKE)
def train(
    context: typer.Context,  # the recipe and the settings: click would take a setting's value for an argument
    limits: BudgetConfig,
    data: Data = (),
    out: Out = None,
    config: Annotated[Path | None, "YAML file with settings over the recipe's."] = None,
    resume: Annotated[str | None, "Run folder to continue; auto: the one of --out, if there is any."] = None,
    data_changed: DataChanged = False,
    find_lr: FindLr = False,
    bell: Target = None,
) -> None:
    """Train a model by a recipe."""
    from daybreak.arguments import asked_training

    asked = asked_training(context.args, list(data), out, config, resume, limits, data_changed, find_lr)
    with phase("loading"):
        from daybreak.commands.train import run_train

    run_train(console, asked, bell)


@app.command(panel=MAKE)
def finetune(
    settings: FinetuneSettings,
    out: Out = None,
    resume: Annotated[Path | None, "Run folder to continue, in place of a base."] = None,
    data_changed: DataChanged = False,
    find_lr: FindLr = False,
    bell: Target = None,
) -> None:
    """Fine-tune Stable Diffusion, a relative of it, or a run of our own on your pictures.

    [bold]BASE[/bold]: a hub id, a diffusers folder (Stable Diffusion 1, 2, XL, 3, FLUX.1, PRX), a single .safetensors
    file, or a run folder of daybreak train. [bold]--data[/bold]: 500 to 10,000 captioned pictures, as daybreak train
    takes them.

    DreamBooth is --instance-prompt and --class-prompt with any --method; --method textual-inversion goes with --token.

    Prints what it takes of memory and what is wrong with the pictures, trains, and writes a diffusers folder (full),
    LoRA files for diffusers, ComfyUI and A1111, or an embedding. daybreak sample, evaluate, export, serve and
    compare-blind take the run folder.

    [bold]Examples[/bold]
    daybreak finetune stable-diffusion-v1-5/stable-diffusion-v1-5 --data my-pictures --deadline 24h --out runs/mine
    daybreak finetune my/model --data my-pictures --method lora --rank 32 --prompt "a cat in my style"
    daybreak finetune my/model --data dog --method lora --masks beside --trigger sks --shuffle-tags --keep-tags 1
    daybreak finetune my/model --data dog --instance-prompt "a photo of sks dog" --class-prompt "a photo of a dog"
    daybreak finetune --resume runs/mine
    """
    from daybreak.finetune.asked import check_finetune, run_to_resume, trains_own

    if resume is not None or not settings.base or not settings.data:
        run = run_to_resume(resume, settings, out, find_lr)
        with phase("loading"):
            from daybreak.commands.finetune import resume_finetune

        resume_finetune(console, run, data_changed, settings, bell)
        return
    settings = replace(settings, base=str(model_folder(settings.base)))
    check_finetune(settings, out)
    if trains_own(settings):
        with phase("loading"):
            from daybreak.commands.finetune_own import finetune_own

        finetune_own(console, settings, out, find_lr, bell)
        return
    with phase("loading"):
        from daybreak.commands.finetune import run_finetune

    run_finetune(console, settings, out, find_lr=find_lr, bell=bell)


@app.command(panel=USE)
def sample(
    drawing: Drawing,
    run: Model,
    prompt: Annotated[list[str], "What to draw; give it several times for several pictures."],
    out: Annotated[Path, "The PNG to write."] = Path("grid.png"),
) -> None:
    """Draw pictures with a trained model, or with what was exported of one: one PNG, each picture above its prompt."""
    check_there(run)
    from daybreak.evaluate.checks import check_sample

    check_sample(run, out, drawing)
    with phase("loading"):
        from daybreak.commands.sample import run_sample

    run_sample(console, run, prompt, out, drawing)


EVALUATE_HELP = f"""Judge models and pictures, by numbers and by eye.

[bold]Subject[/bold]: a run folder, a folder of pictures, or a diffusers pipeline (folder or hub id). Several are
compared in one page.

[bold]Metrics[/bold] (--metrics, with commas)
{listed({name: metric.meaning for name, metric in METRICS.items()})}

[bold]Examples[/bold]
daybreak evaluate runs/mine
daybreak evaluate runs/mine --metrics fid,kid,clipscore --reference held-out-pictures
daybreak evaluate my/model --metrics geneval --weights mask2former=FOLDER --weights clip=FOLDER
torchrun --nproc-per-node 8 -m daybreak evaluate runs/mine --metrics geneval
"""


@app.command(help=EVALUATE_HELP, panel=JUDGE)
def evaluate(
    request: Request,
    subjects: Annotated[list[str], Flag("SUBJECT..."), "Run folder, folder of pictures, or diffusers pipeline."],
    out: Annotated[Path | None, "Folder for the results; default: the run's, or one in evaluations/."] = None,
) -> None:
    """Judge models and pictures, by numbers and by eye."""
    from daybreak.evaluate.adapter_option import check_adapters
    from daybreak.evaluate.checks import check_subject, subject_name

    check_adapters(request.drawing.lora, [subject_name(str(model_folder(s))) for s in subjects])
    for subject in subjects:
        check_subject(subject, request)
    with phase("loading"):
        from daybreak.commands.evaluate import run_evaluate

    run_evaluate(console, subjects, request, out)


@app.command(panel=MAKE)
def average(
    run: Annotated[Path, Flag("RUN"), FolderOf, "Run folder, trained with --train.posthoc_ema."],
    length: Annotated[AverageLength, "Relative length of the average."],
    out: Annotated[Path, "Run folder to write: sample and evaluate it as any other."],
) -> None:
    """Choose the length of the weights' average after training (post-hoc EMA)."""
    check_there(run)
    check_empty(out)
    stored_averages(run)
    with phase("loading"):
        from daybreak.commands.average import run_average

    run_average(console, run, length, out)


@app.command(panel=MAKE)
def teach(
    data: Annotated[
        tuple[str, ...], "Folder of captioned pictures, or of prepared shards; default: the embedded world."
    ] = (),
    out: Annotated[Path, "The .safetensors file to write."] = Path("teacher.safetensors"),
    resolution: Annotated[
        int | None, Bounds(least=32), "Side at which the pictures of --data are read, px; default: 64."
    ] = None,
    steps: Annotated[Count, "Steps of 96 pictures."] = 360,
    seed: Annotated[Natural, "The same seed trains the same teacher."] = 0,
) -> None:
    """Train a small vision teacher of your pictures, self-supervised: no caption is read, nothing is downloaded.

    A run learns from it by --alignment.weight 0.5 --alignment.teacher FILE (REPA), or by --perceptual.dino_teacher and
    --perceptual.lpips_network. Without --data it is the package's own of the embedded world (teacher embedded), anew.
    """
    from daybreak.arguments import asked_teacher

    config = asked_teacher(list(data), out, resolution, seed)
    with phase("loading"):
        from daybreak.commands.teach import run_teach

    run_teach(console, config, out, steps)


@app.command(words="RECIPE", panel=MAKE)
def plan(
    context: typer.Context,
    limits: BudgetConfig,
    text_tokens: Annotated[Count | None, "Length of a caption; default: the longest read."] = None,
    gpu: Annotated[str | None, f"{', '.join(GPUS)}, or cpu: this one. Default: h200."] = None,
    node: Annotated[Count | None, "GPUs of a node; default: 8, or all."] = None,
    calibration: Annotated[Path | None, "A run on such GPUs, whose speed is gone by; default: an estimate."] = None,
    json: Json = False,
) -> None:
    """Show what a recipe takes before it runs: parameters, FLOPs, and on a number of GPUs speed, memory, time and cost.

    [bold]Examples[/bold]
    daybreak plan speedrun --gpus 32 --gpu h200 --price 2.0 --deadline 24h
    daybreak plan scenes --gpu cpu --calibration runs/mine
    """
    from daybreak.arguments import asked_plan

    config = asked_plan(context.args, gpu, calibration, limits)
    with phase("loading"):
        from daybreak.commands.plan import run_plan

    run_plan(console, config, text_tokens, gpu, node, calibration, limits, json)


@app.command(words="RECIPE --out RUN", panel=MAKE)
def launch(
    context: typer.Context,
    settings: LaunchSettings,
    limits: BudgetConfig,
    out: Annotated[Path, "Run folder, where all nodes see it."],
    data: Data = (),
    bell: Target = None,
) -> None:
    """Write the job that trains on many GPUs: a torchrun script, a SLURM script, a SkyPilot task, a PyTorchJob.

    A lost process or node is started again and goes on from the last checkpoint.

    [bold]Examples[/bold]
    daybreak launch speedrun --data shards --out runs/day --to slurm --nodes 4 --gpus 8 --deadline 24h --submit
    """
    from daybreak.commands.launch import run_launch

    code = run_launch(console, context.args, settings, limits, list(data), out, bell)
    raise typer.Exit(code)


@app.command(panel=LOOK)
def runs(
    folder: Annotated[Path, Flag("FOLDER"), "Folder with runs in it, or in its folders."] = Path("runs"),
    json: Json = False,
) -> None:
    """List the runs in a folder: recipe, state, progress, score, size, and when they were last heard of."""
    from daybreak.commands.runs import show_runs

    show_runs(console, folder, json)


@app.command(panel=LOOK)
def status(
    run: Run,
    watch: Annotated[bool, "Look again every other second, while the run trains."] = False,
    json: Json = False,
) -> None:
    """Say where a run stands: progress, losses, speed, time left, cost, checkpoints."""
    from daybreak.commands.status import show_status

    show_status(console, run, watch, json)


@app.command()
def watch(
    runs: Annotated[tuple[Path, ...], Flag("[RUN...]"), "Run folders, or folders of runs; default: runs."] = (),
    host: Annotated[str, "Address to listen on; the default is reached from this machine only."] = "127.0.0.1",
    port: Annotated[int, Bounds(least=0, most=65535), "0: any free one."] = 8001,
    anonymous: Annotated[bool, "Let others look without a key."] = False,
) -> None:
    """Show runs on a live page while they train and afterwards: curves, pictures over time, what goes on inside.

    It reads what runs write into their folders: a run needs no server to be watched, now or later.

    [bold]Examples[/bold]
    daybreak watch runs/mine
    daybreak watch
    """
    places = list(runs) or [Path("runs")]
    check_places(places)
    from daybreak.commands.watch import run_watch

    run_watch(console, places, host, port, anonymous)


@app.command()
def tell(
    run: Run,
    what: Annotated[Kind, Flag("WHAT"), "stop: save and end. checkpoint: write one now. sample: draw samples now."],
    prompt: Annotated[tuple[str, ...], "For sample: draw this too; several times for several."] = (),
) -> None:
    """Tell a run that trains to stop, to write a checkpoint or to draw samples now; ends when that is done.

    It needs no server: the request is a file in the run folder, which the run looks for once a second between two
    steps. It works for every command that trains, on every machine that sees the folder. The log says who asked.

    [bold]Examples[/bold]
    daybreak tell runs/mine stop
    daybreak tell runs/mine sample --prompt "a red circle" --prompt "three rings"
    """
    from daybreak.commands.tell import run_tell

    run_tell(console, run, what, prompt)


@app.command()
def note(
    run: Run,
    text: Annotated[str | None, "What to remember of the run, in place of what stands there; '' removes it."] = None,
    favourite: Annotated[bool | None, "Mark the run as a favourite, or no longer."] = None,
) -> None:
    """Keep a note with a run, or mark it as a favourite; without options, show both.

    [bold]Examples[/bold]
    daybreak note runs/mine --text "warm-up twice as long: no difference" --favourite
    """
    from daybreak.commands.note import run_note

    run_note(console, run, text, favourite)


@app.command(panel=LOOK)
def compare(
    runs: Annotated[list[Path], Flag("RUN..."), "Two or more run folders."],
    out: Annotated[Path | None, "A PNG to write with the losses; default: no plot, which takes longest."] = None,
    json: Json = False,
) -> None:
    """Put runs beside each other: a table, the settings in which they differ, and a plot of their losses (--out)."""
    from daybreak.commands.compare import show_comparison

    show_comparison(console, runs, out, json)


@app.command(words="RECIPE ...", panel=JUDGE)
def ablate(
    context: typer.Context,
    seeds: Annotated[int, Bounds(least=1, most=100), "Runs of each recipe, with seeds 0, 1, ..."] = 3,
    minutes: Annotated[float | None, Bounds(least=0.01), "Equal training time for all, minutes."] = None,
    steps: Annotated[Count | None, "Equal steps for all, in place of equal time."] = None,
    out: Annotated[Path | None, "Folder to write, or one to go on with."] = None,
    pictures: Annotated[int, Bounds(least=2), "Pictures behind the Fréchet distance (on scenes)."] = 1000,
    charge_teacher: Annotated[
        NotNegative | None, time_in("s"), "Time that recipes with a taught teacher train less; default: its file says."
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
    with phase("loading"):
        from daybreak.commands.ablate import run_ablate

    run_ablate(console, context.args, seeds, minutes, steps, out, pictures, charge_teacher)


@app.command(words="RECIPE", panel=JUDGE)
def track(
    context: typer.Context,
    track: Annotated[str | None, f"{', '.join(TRACKS)}."] = None,
    seeds: Annotated[int, Bounds(least=1, most=100), "Runs, with seeds 0, 1, ..."] = 3,
    out: Annotated[Path | None, "Folder of the entry to write, or to go on with."] = None,
    data: Annotated[str | None, "Folder of captioned pictures, for a track that takes one."] = None,
    hidden_seed: Annotated[
        Path | None, "File that nobody else can guess: the judge's prompts come from it. With --page it is shown."
    ] = None,
    changed: Annotated[str, "What this entry changes, for the history of records."] = "",
    teach: Annotated[
        Count | None, "Steps for which each run first trains a teacher of its own, in the embedded one's place."
    ] = None,
    verify: Annotated[Path | None, "Entry to check and to run again, in place of a recipe."] = None,
    page: Annotated[Path | None, "Folder of kept entries: adds those named, and writes the page FOLDER.md."] = None,
    judge: Annotated[bool, "Judge once all have trained; with --no-judge the same command does it later."] = True,
    peer_checkout: Annotated[
        Path | None, "Checkout of github.com/Photoroom/PRX: its denoiser trains in place of ours."
    ] = None,
) -> None:
    """Run a recipe against the clock of a track, and write an entry that anybody can verify.

    Each seed trains in a process of its own whose clock never stops; what it kept is judged after it has ended. The
    same command goes on where it was interrupted: what has trained or was judged stays.

    [bold]Examples[/bold]
    daybreak track scenes-demo --track scenes-32-cpu --seeds 3 --out runs/entry
    daybreak track folder --track emoji-64 --data my-pictures --train.minutes 9.5 --out runs/entry
    daybreak track --verify runs/entry
    daybreak track runs/entry --page docs/track
    """
    from daybreak.track.asked import asked_track

    asked = asked_track(
        context.args, track, seeds, out, data, hidden_seed, changed, verify, page, peer_checkout, judge, teach
    )
    with phase("loading"):
        from daybreak.commands.track import run_asked

    raise typer.Exit(0 if run_asked(console, asked) else 1)


@app.command(panel=JUDGE)
def compare_blind(
    settings: BlindSettings,
    contestants: Annotated[
        tuple[Path, ...], Flag("A B ..."), "Two or more folders of pictures, or runs; or one run."
    ] = (),
) -> None:
    """Let people say which model is better, on a page that does not tell them which is which.

    Pictures belong together by the prompt that prompts.jsonl or metadata.jsonl (file_name, text) gives them, else by
    file name; runs draw theirs first, from the same noise. Prints a link for each voter. Votes survive a crash; the
    same command goes on. --results DIR gives win rates, Bradley–Terry scores and agreement, as tables, CSV and a page.
    A run alone draws each prompt twice, from two noises: votes that daybreak prefer learns from.

    [bold]Examples[/bold]
    daybreak compare-blind samples/old samples/new --voters 3 --out blind/new-vs-old
    daybreak compare-blind runs/a runs/b --prompts prompts.txt --questions overall,prompt
    daybreak compare-blind --results blind/new-vs-old
    """
    from daybreak.commands.compare_blind import run_compare_blind

    run_compare_blind(console, [model_folder(str(c)) for c in contestants], settings)


@app.command(panel=DATA)
def prepare(
    settings: PrepareSettings,
    workers: Work,
    source: Annotated[list[str], Flag("SOURCE..."), "Folders, files or addresses (s3://, gs://, hf://); several mix."],
    out: Annotated[str, "Folder or address for the shards."],
    work: Annotated[Path | None, "Folder for unfinished work; default: in OUT."] = None,
    embed: Annotated[str | None, "Text encoder: then also daybreak embed with it, on the same --engine."] = None,
) -> None:
    """Bring captioned pictures of any kind into training shards, and list what is wrong with the rest.

    A source is an ImageFolder (metadata.jsonl, .csv or .parquet), pictures with a .txt beside each, WebDataset .tar
    files, Parquet or Arrow files as the Hugging Face hub has them, or a CSV or JSONL file of paths or addresses. What
    is dropped stands in OUT/dropped.jsonl with its reason. Killed, the same command goes on where it stopped.
    """
    with phase("loading"):
        from daybreak.commands.prepare import run_prepare

    run_prepare(console, source, out, settings, workers, work, embed)


@app.command(panel=DATA)
def inspect(
    settings: PrepareSettings,
    place: Annotated[str, Flag("SOURCE|SHARDS"), "What prepare takes, or what it made."],
    size: Annotated[
        int | None,
        Bounds(least=8),
        "As daybreak prepare --size, px; default: the largest that nine of ten pictures have.",
    ] = None,
    page: Annotated[Path | None, "The HTML page to write; default: inspect-NAME.html here."] = None,
    tokenizer: Annotated[str | None, "Count tokens with this model's; default: an estimate."] = None,
    max_tokens: Annotated[Count, "The text encoder's limit; 77 for Stable Diffusion's."] = 256,
    strict: Annotated[bool, "Exit with code 1 where there are errors."] = False,
    workers: Annotated[int | None, Bounds(least=0), "Processes; 0: none beside this. Default: cores."] = None,
    json: Json = False,
) -> None:
    """Say what is wrong with a data set, why it matters and what to do; with one page of pictures and figures.

    A source is looked at as daybreak prepare would make shards of it with the same options.
    """
    with phase("loading"):
        from daybreak.commands.inspect import run_inspect

    if run_inspect(console, place, settings, size, page, tokenizer, max_tokens, strict, workers, json):
        raise typer.Exit(1)


@app.command(words="RUN", panel=MAKE)
def distill(
    context: typer.Context,
    steps: Annotated[int, Bounds(least=1, most=64), "Steps in which the new model draws."] = 4,
    minutes: Annotated[float, Bounds(least=0.01), "Training time, minutes."] = 5.0,
    out: Out = None,
) -> None:
    """Train a student of a run that draws in few steps, without guidance: 4 in place of 48 passes of the network.

    Multistep consistency distillation. The result is a run as any other; a table tells it from its teacher.
    """
    from daybreak.distill.student import asked_distillation

    asked = asked_distillation(context.args, steps, minutes, out)
    with phase("loading"):
        from daybreak.commands.distill import run_distill

    run_distill(console, asked)


@app.command(panel=MAKE)
def prefer(
    settings: PreferSettings,
    out: Out = None,
    resume: Annotated[Path | None, "Run folder to continue, in place of a model."] = None,
    bell: Target = None,
) -> None:
    """Teach a model what people or a judge prefer: by votes of a blind comparison, by pairs, or by a judge.

    Diffusion-DPO: what is preferred becomes likelier than it was for the model as it is now, which stays beside as the
    reference. People vote with daybreak compare-blind RUN. A judge ranks pictures that the model draws for captions of
    its training pictures, in rounds, and never for the prompts of its evaluation. With --online it scores them while
    they are drawn, by Flow-GRPO, and no pairs are made: of our own models, and of flow-matching ones of diffusers. The
    report says what was gained, and what another judge, the FID to real pictures, their spread and drift say of the
    cost.

    [bold]Examples[/bold]
    daybreak compare-blind runs/mine --prompts prompts.txt --out blind/mine
    daybreak prefer runs/mine --votes blind/mine --out runs/preferred
    daybreak prefer scenes --judge scenes --minutes 6
    daybreak prefer runs/mine --judge "python my_judge.py" --check clipscore
    daybreak prefer runs/mine --judge scenes --online --method text --pictures 8
    daybreak prefer my/diffusers-model --pairs pick-a-pic --method lora --lr 1e-5 --reference photos
    daybreak prefer my/sd3 --judge pickscore --captions prompts.txt --online --method lora
    daybreak prefer --resume runs/preferred
    """
    from daybreak.prefer.asked import check_prefer, run_to_resume

    if resume is not None:
        settings = run_to_resume(resume, settings, out)
        with phase("loading"):
            from daybreak.commands.prefer import resume_prefer

        resume_prefer(console, settings, resume, bell)
        return
    settings = check_prefer(settings, out)
    with phase("loading"):
        from daybreak.commands.prefer import run_prefer

    run_prefer(console, settings, out, bell)


@app.command(panel=USE)
def export(
    licences: Licences,
    run: Model,
    out: Annotated[Path, "Folder to write, or file."],
    to: Annotated[
        Format,
        "diffusers: a folder that diffusers loads. safetensors: plain weights under our names. single-file: a "
        "fine-tuned Stable Diffusion 1, 2 or XL as one file, for ComfyUI, A1111 and Forge.",
    ] = "diffusers",
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], "Number format of the weights."] = "float32",
    ema: Annotated[AverageLength | None, "Relative length of the average (--train.posthoc_ema)."] = None,
) -> None:
    """Write a run's averaged model as a folder for others, with a model card.

    A diffusers folder loads with DiffusionPipeline.from_pretrained, without daybreak, and draws the same pictures. What
    diffusers has no class for (convolutions, grounding, sprint, ...) brings its code along: trust_remote_code=True.
    """
    from daybreak.commands.export import run_export

    run_export(console, run, to, out, dtype, licences, ema)


@app.command(name="import", panel=USE)
def import_(
    folder: Annotated[Path, Flag("FOLDER"), "Folder that daybreak export or PRXPixelPipeline wrote."],
    out: Annotated[Path, "Run folder to make."],
    data: Annotated[Path | None, "Folder of captioned pictures to train on."] = None,
) -> None:
    """Make a run of an exported model, as a start for training: daybreak train --resume RUN."""
    from daybreak.commands.export import run_import

    run_import(console, folder, out, data)


@app.command(panel=USE)
def shrink(
    run: Model,
    out: Annotated[Path, "Folder to write."],
    to: Annotated[
        Literal["int8", "int8-dynamic", "fp8"],
        "int8: 8-bit weights. int8-dynamic: 8-bit arithmetic too. fp8: the same on GPUs that have it.",
    ] = "int8",
) -> None:
    """Write a run's averaged model in 8 bits, and say what that changed: size, speed, memory, score, pictures.

    daybreak serve draws with the folder.
    """
    check_there(run)
    check_empty(out)
    trained_config(run)
    with phase("loading"):
        from daybreak.export.shrink import run_shrink

    run_shrink(console, run, to, out)


@app.command(panel=USE)
def serve(
    settings: ServeSettings,
    models: Annotated[
        list[str], Flag("MODEL..."), "Run folders, exported folders or diffusers pipelines; NAME=FOLDER names one."
    ],
    host: Annotated[str, "Address to listen on; the default is reached from this machine only."] = "127.0.0.1",
    port: Annotated[int, Bounds(least=0, most=65535), "0: any free one."] = 8000,
    anonymous: Annotated[bool, "Let others in without keys."] = False,
) -> None:
    """Serve models over HTTP: a page at /, and OpenAI's image API at /v1/images/generations.

    Requests are drawn together as they come. SIGTERM ends the server once every accepted request is answered.
    """
    from daybreak.commands.serve import run_serve

    run_serve(console, models, host, port, settings, anonymous)


@app.command(panel=USE)
def loadtest(
    settings: LoadSettings,
    url: Annotated[str, Flag("URL"), "Address of a server, such as http://127.0.0.1:8000."],
    json: Json = False,
) -> None:
    """Load a server as clients do: pictures a second, how long they wait, what was refused."""
    from daybreak.commands.loadtest import run_loadtest

    run_loadtest(console, url, settings, json)


@app.command(panel=USE)
def key(
    name: Annotated[str, Flag("NAME"), "Who the key is for."],
    file: Annotated[Path, "File that keeps the hashes; give it to daybreak serve --keys."] = Path("keys.txt"),
    rate: Annotated[float | None, Bounds(least=0.01), "Pictures a minute; default: the server's."] = None,
) -> None:
    """Make an API key for daybreak serve: shown once, kept as a hash."""
    from daybreak.commands.serve import run_key

    run_key(console, name, file, rate)


@app.command(panel=DATA)
def embed(settings: EmbedSettings, shards: Shards) -> None:
    """Encode all captions of shards once, with a frozen text encoder, so that training need not.

    Tokens are stored without padding. Killed, the same command goes on with the next shard.
    """
    with phase("loading"):
        from daybreak.commands.embed import run_embed

    run_embed(console, shards, settings)


@app.command(panel=DATA)
def caption(
    settings: CaptionSettings,
    place: Annotated[str, Flag("PLACE"), "Folder of pictures, or what daybreak prepare made."],
) -> None:
    """Have a vision-language model write captions.

    Of a folder: a .txt beside each picture that has no caption yet. Of shards: a set of captions that joins those that
    are there. Killed, the same command goes on with what is left.
    """
    with phase("loading"):
        from daybreak.commands.caption import run_caption

    run_caption(console, place, settings)


@app.command(panel=MAKE)
def settings(recipe: Annotated[str, Flag("RECIPE"), "Name of the recipe."] = "scenes", json: Json = False) -> None:
    """List every setting of a recipe: its name, its value, and what it means."""
    from daybreak.recipes.show import list_settings

    list_settings(console, recipe, json)


def entry() -> None:
    """The `daybreak` command: a user's mistake gives one line on stderr and exit code 2, never a traceback."""
    # At its end Python looks through every object that torch and transformers made, which takes more than a second.
    atexit.register(gc.freeze)
    keep_messages()
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)  # a crash in a library's native code tells where in ours it was
    try:
        with showing_phases(console):
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
    finally:
        keeper.end()


def _fail(message: Any, code: int) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/bold red] {escape(str(message))}", highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    entry()
