"""The command line: one function a subcommand; no logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

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
a folder of pictures with a .txt beside each.

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
    data: Annotated[Path | None, typer.Option(help="Folder of captioned pictures.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: a new one in runs/.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings over the recipe's.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to continue, in place of a recipe.")] = None,
) -> None:
    """See TRAIN_HELP."""
    from daybreak.runs import run_train

    run_train(console, context.args, data, out, config, resume)


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
def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    to: Annotated[
        Literal["diffusers", "safetensors"],
        typer.Option(help="diffusers: a PRXPixelPipeline folder. safetensors: plain weights under our names."),
    ] = "diffusers",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Number format of the weights.")
    ] = "float32",
    license: Annotated[str | None, typer.Option(help="The model's licence for the card, such as apache-2.0.")] = None,
    data_license: Annotated[str | None, typer.Option(help="The training data's licence for the card.")] = None,
) -> None:
    """Write a run's averaged model as a folder for others, with a model card.

    A diffusers folder loads with DiffusionPipeline.from_pretrained, without daybreak, and draws the same pictures.
    """
    from daybreak.export.card import Licences
    from daybreak.export.commands import run_export

    run_export(console, run, to, out, dtype, Licences(license, data_license))


@app.command(name="import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder that daybreak export or PRXPixelPipeline wrote.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    data: Annotated[Path | None, typer.Option(help="Folder of captioned pictures to train on.")] = None,
) -> None:
    """Make a run of an exported model, as a start for training: daybreak train --resume RUN."""
    from daybreak.export.commands import run_import

    run_import(console, folder, out, data)


@app.command()
def shrink(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
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
    from daybreak.export.shrink import run_shrink

    run_shrink(console, run, to, out)


@app.command()
def serve(
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
    batch: Annotated[int, typer.Option(min=1, max=256, help="Most pictures drawn together.")] = 8,
    batch_wait: Annotated[float, typer.Option(min=0, max=1000, help="Wait for companions, ms.")] = 5,
    queue: Annotated[int, typer.Option(min=1, max=10_000, help="Most pictures that wait; more get 429.")] = 64,
    timeout: Annotated[float, typer.Option(min=1, max=3600, help="Of a request, seconds.")] = 120,
    max_size: Annotated[
        int | None, typer.Option(min=8, help="Longest side, px; default: twice that of training.")
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, max=10_000, help="Most sampler steps.")] = 200,
    keys: Annotated[Path | None, typer.Option(help="File of hashed API keys; see daybreak key.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Pictures a minute for each key, or address.")] = None,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Let others in without keys.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="torch.compile and warm up before being ready.")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Compute in bfloat16.")] = False,
) -> None:
    """Serve models over HTTP: a page at /, and OpenAI's image API at /v1/images/generations.

    Requests are drawn together as they come. SIGTERM ends the server once every accepted request is answered.
    """
    from daybreak.serve.command import run_serve
    from daybreak.serve.settings import ServeSettings

    limits = ServeSettings(batch, batch_wait / 1000, queue, timeout, max_size, max_steps, rate, keys, compile, bfloat16)
    run_serve(console, models, host, port, limits, anonymous)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Who the key is for.")],
    file: Annotated[Path, typer.Option(help="File that keeps the hashes; give it to daybreak serve --keys.")] = Path(
        "keys.txt"
    ),
    rate: Annotated[float | None, typer.Option(min=0.01, help="Pictures a minute; default: the server's.")] = None,
) -> None:
    """Make an API key for daybreak serve: shown once, kept as a hash."""
    from daybreak.serve.command import run_key

    run_key(console, name, file, rate)


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
