"""Puts a trained run into the box: `python -m daybreak.box.pack RUN COMMIT` (make box), from the project's root.

What is needed to draw, in half precision, as a run folder that every command opens; its score, its curve, and a card.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from daybreak import __version__, checkpoint_files
from daybreak import config as configs
from daybreak.config import Config
from daybreak.encoders.text import TextEncoder
from daybreak.model_folder import BOX
from daybreak.run_folder import read_events, read_score
from daybreak.train import checkpoint

CURVE = "curve.json"
"""[[pictures seen, share of the prompts followed], ...] of the sampling moments."""
MOST_BYTES = 4_000_000

CARD = Path(__file__).parent / "card.md"
"""What README.md says, its figures in braces."""


def pack(run: Path, commit: str, box: Path) -> None:
    """Writes the folder `box` anew from the newest checkpoint of `run`, which the code of `commit` trained.

    RuntimeError where it is too large.
    """
    config = configs.load(run / "config.yaml")
    newest = checkpoint.newest_good(run)
    shutil.rmtree(box, ignore_errors=True)
    building = (box / "checkpoints" / newest.name).with_suffix(checkpoint_files.INCOMPLETE)
    building.mkdir(parents=True)
    weights = {name: tensor.half() for name, tensor in load_file(newest / "transformer.safetensors").items()}
    save_file(weights, building / "transformer.safetensors")
    TextEncoder.load(newest).save(building)
    shutil.copy(newest / "state.json", building / "state.json")
    checkpoint_files.publish(building, keep=1)
    configs.save(config, box / "config.yaml")
    shutil.copy(run / "score.json", box / "score.json")
    (box / CURVE).write_text(json.dumps(curve_of(run)) + "\n")
    parameters = sum(tensor.numel() for tensor in weights.values())
    state = json.loads((newest / "state.json").read_text())
    (box / "README.md").write_text(_card(config, commit, read_score(box), state, parameters))
    size = sum(p.stat().st_size for p in box.rglob("*") if p.is_file())
    if size > MOST_BYTES:
        raise RuntimeError(f"{box} has {size:,} bytes, more than {MOST_BYTES:,}")
    print(f"{box}: {size / 1e6:.2f} MB")


def curve_of(run: Path) -> list[tuple[int, float]]:
    """(pictures seen, share of the prompts followed) at the sampling moments that the run's log tells of."""
    path = run / CURVE
    if path.is_file():
        return [(int(images), float(share)) for images, share in json.loads(path.read_text())]
    samples = [e for e in read_events(run) if e.get("event") == "samples"]
    return [(e["images"], e["followed"]) for e in samples if e["followed"] is not None]


def _card(config: Config, commit: str, scores: dict[str, float], state: dict[str, float], parameters: int) -> str:
    prompts = config.evaluate.prompts_per_task * 6 + config.evaluate.held_out_prompts
    return CARD.read_text(encoding="utf-8").format(
        commit=commit,
        parameters=parameters / 1e6, minutes=state["seconds"] / 60, recipe=config.recipe, seed=config.train.seed,
        pictures=state["position"], prompts=prompts, version=f"daybreak {__version__}", torch=torch.__version__,
        **scores,
    )  # fmt: skip


if __name__ == "__main__":
    pack(Path(sys.argv[1]), sys.argv[2], BOX / "scenes")
