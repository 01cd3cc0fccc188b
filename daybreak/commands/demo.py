"""`daybreak demo`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from daybreak import config as configs
from daybreak.commands.train import train_and_report
from daybreak.formats.run import load_averaged
from daybreak.parallel import pick_device
from daybreak.phases import phase
from daybreak.recipes import recipe as find_recipe
from daybreak.run_folder import IN_THE_BOX, new_run_folder
from daybreak.tables import print_facts
from daybreak.terminal import duration


def run_demo(console: Console, minutes: float, out: Path | None) -> None:
    """`daybreak demo`: draws with the model in the box, trains one of its own, and shows both side by side."""
    from daybreak.box.show import draw_beside_box, draw_from_box, plot_curves

    name = "scenes-gpu" if pick_device().type == "cuda" else "scenes-demo"
    config = configs.override(find_recipe(name), "train.minutes", minutes)
    configs.check(config)
    run = out or new_run_folder("demo")
    with phase("drawing with the model in the box"):
        score = draw_from_box(run / IN_THE_BOX)
    console.print(
        f"the model in the box follows {score['one_and_two_objects']:.0%} of prompts of one and two objects; what it "
        f"draws: {run / IN_THE_BOX}",
        highlight=False,
    )
    console.print(
        f"[bold]daybreak demo[/bold]: a text-to-image model of small scenes, from random weights, "
        f"{duration(60 * minutes)} of training at {config.data.resolution} px"
    )
    train_and_report(console, config, run, resume=False)
    if not (run / "score.json").is_file():
        return  # told to stop
    with phase("drawing beside the model in the box"):
        draw_beside_box(*load_averaged(run, config, pick_device()), config, run / "beside-the-box.png")
        plot_curves(run, run / "curves.png")
    files = [
        ("pictures", f"{run / 'beside-the-box.png'} (each row of the box above this run's)"),
        ("curves", str(run / "curves.png")),
        ("draw with it", 'daybreak sample scenes --prompt "a large red circle above a small blue square"'),
    ]
    print_facts(console, files, "beside the model in the box", whole=True)
