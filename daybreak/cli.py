"""The command line: one function a subcommand; no logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from daybreak import __version__
from daybreak.config import ConfigError

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

TRAIN_HELP = """Train a model by a recipe.

[bold]Recipes[/bold]

scenes        the embedded world at 36 px, minutes on a CPU

scenes-gpu    the embedded world at 128 px, minutes on one GPU

folder        your own captioned pictures at 64 px (with --data)

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
    from daybreak.runs import run_demo

    run_demo(console, minutes, out)


@app.command(
    help=TRAIN_HELP,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="RECIPE [--section.field VALUE ...] [OPTIONS]",
)
def train(
    context: typer.Context,  # the recipe and the settings: click would take a setting's value for an argument
    data: Annotated[
        list[str] | None, typer.Option(help="Folder of captioned pictures, or of prepared shards; several shards mix.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: a new one in runs/.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings over the recipe's.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to continue, in place of a recipe.")] = None,
) -> None:
    """See TRAIN_HELP."""
    from daybreak.runs import run_train

    run_train(console, context.args, data or [], out, config, resume)


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    prompt: Annotated[list[str], typer.Option(help="What to draw; give it several times for several pictures.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("grid.png"),
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Sampler steps; default: the run's.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance; 1 is none; default: the run's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pictures.")] = 0,
    size: Annotated[int | None, typer.Option(min=8, help="Side, px; default: the training size.")] = None,
) -> None:
    """Draw pictures with a trained model: one PNG, each picture above its prompt."""
    from daybreak.runs import run_sample

    run_sample(console, run, prompt, out, steps, guidance, seed, size)


@app.command()
def evaluate(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Score a run: the share of prompts it follows, by task, and on combinations that it never saw.

    Writes score.json, grid.png, failures.png and report.html into the run folder.
    """
    from daybreak.runs import run_evaluate

    run_evaluate(console, run)


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
    image_column: Annotated[str | None, typer.Option(help="Column with pictures, paths or addresses.")] = None,
    uncaptioned: Annotated[bool, typer.Option(help="Keep pictures without caption, for daybreak caption.")] = False,
    duplicates: Annotated[str, typer.Option(help="drop; exact: only identical files go; keep.")] = "drop",
    shard_mb: Annotated[float, typer.Option(help="Size of a shard, MB.")] = 256.0,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0: none beside this. Default: cores.")] = None,
    engine: Annotated[str, typer.Option(help="processes, or ray: the same on a Ray cluster.")] = "processes",
    work: Annotated[Path | None, typer.Option(help="Folder for unfinished work; default: in OUT.")] = None,
) -> None:
    """Bring captioned pictures of any kind into training shards, and list what is wrong with the rest.

    A source is an ImageFolder (metadata.jsonl or metadata.csv), pictures with a .txt beside each, WebDataset .tar
    files, Parquet or Arrow files as the Hugging Face hub has them, or a CSV or JSONL file of paths or addresses. What
    is dropped stands in OUT/dropped.jsonl with its reason. Killed, the same command goes on where it stopped.
    """
    from daybreak.data.commands import run_prepare

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
            "uncaptioned": uncaptioned,
            "duplicates": duplicates,
            "shard_mb": shard_mb,
        },
        caption or [],
        workers,
        engine,
        work,
    )


@app.command()
def inspect(
    place: Annotated[str, typer.Argument(metavar="SOURCE|SHARDS", help="What prepare takes, or what it made.")],
    page: Annotated[Path | None, typer.Option(help="The HTML page to write; default: inspect-NAME.html here.")] = None,
    size: Annotated[int, typer.Option(help="Of a source: as it would be prepared, px.")] = 1024,
    patch: Annotated[int, typer.Option(help="Of a source: as it would be prepared, px.")] = 32,
    caption: Annotated[list[str] | None, typer.Option(help="Of a source: caption column; several times.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Of a source: column with the pictures.")] = None,
    uncaptioned: Annotated[bool, typer.Option(help="Of a source: look at pictures without caption too.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="Count tokens with this model's; default: an estimate.")] = None,
    max_tokens: Annotated[int, typer.Option(help="The text encoder's limit; 77 for Stable Diffusion's.")] = 256,
    strict: Annotated[bool, typer.Option(help="Leave with exit code 1 where there are errors.")] = False,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0: none beside this. Default: cores.")] = None,
) -> None:
    """Say what is wrong with a data set, why it matters and what to do; with one page of pictures and figures."""
    from daybreak.data.commands import run_inspect

    options = {"size": size, "patch": patch, "image_column": image_column, "uncaptioned": uncaptioned}
    if run_inspect(console, place, page, options, caption or [], tokenizer, max_tokens, strict, workers):
        raise typer.Exit(1)


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
) -> None:
    """Have a vision-language model write captions for shards; they join those that are there.

    Killed, the same command goes on with the next shard.
    """
    from daybreak.data.commands import run_caption

    run_caption(console, shards, model, name, weight, prompt, max_tokens, revision, batch, cache)


@app.command()
def settings(recipe: Annotated[str, typer.Argument(help="Name of the recipe.")] = "scenes") -> None:
    """List every setting of a recipe: its name, its value, and what it means."""
    from daybreak.runs import list_settings

    list_settings(console, recipe)


def entry() -> None:
    """The `daybreak` command: a user's mistake gives one line on stderr and exit code 2, never a traceback."""
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
        from daybreak.train.loop import TrainingError

        if isinstance(e, TrainingError):
            _fail(e, code=1)
        raise


def _fail(message: Any, code: int) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/bold red] {escape(str(message))}", highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    entry()
