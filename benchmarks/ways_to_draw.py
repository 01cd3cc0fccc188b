"""What is gained and lost by drawing with less work: guidance at some noise levels alone, fewer steps, a student.

    python benchmarks/ways_to_draw.py scenes --student runs/student        # of daybreak distill scenes --steps 4

For each way: passes of the network a picture, pictures a second, and what a program makes of them: prompts followed,
written out as the model has it, prompts followed as they stand, those of combinations held out from training, and the
Fréchet distance to rendered scenes. All ways take turns for the time; on one CPU thread it is the process's own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from machine import record, take_turns
from torch import Tensor

from daybreak.ablate.frechet import frechet_on_scenes
from daybreak.config import Config, SampleConfig
from daybreak.diffusion.times import sampling_times
from daybreak.encoders.text import TextEncoder
from daybreak.evaluate.scoring import judge_scenes
from daybreak.formats.open import open_model
from daybreak.model.transformer import Transformer
from daybreak.model_folder import model_folder
from daybreak.parallel import pick_device
from daybreak.sampling.generate import generate

TIMED = 16
"""Pictures of each way that are timed, all at once."""
INTERVALS = ((0.0, 0.8), (0.3, 1.0), (0.6, 1.0), (0.3, 0.8))


@dataclass(frozen=True)
class Way:
    """A model and how it draws."""

    name: str
    transformer: Transformer
    text_encoder: TextEncoder
    config: Config

    @property
    def passes(self) -> int:
        """Of the network, a picture."""
        s = self.config.sample
        times = sampling_times(s.steps, self.config.diffusion.shift)[:-1].tolist()
        return len(times) + sum(s.guidance != 1 and s.guidance_from <= t <= s.guidance_to for t in times)

    def draw(self, prompts: list[str], expand: bool = True) -> Tensor:
        """With the model's own way of writing prompts out, or as they stand."""
        sample = self.config.sample if expand else replace(self.config.sample, expand=None)
        config = replace(self.config, sample=sample)
        return generate(self.transformer, self.text_encoder, prompts, config, config.evaluate.seed)


def ways_of(model: str, student: Path | None, intervals: bool) -> list[Way]:
    device = pick_device()
    *networks, config = open_model(model_folder(model), device)

    def changed(name: str, **sample: object) -> Way:
        settings: SampleConfig = replace(config.sample, batch=TIMED, **sample)  # type: ignore[arg-type]
        return Way(name, *networks, replace(config, sample=settings))

    ways = [changed("as it is")]
    if intervals:
        ways += [changed(f"guided from t = {a:g} to {b:g}", guidance_from=a, guidance_to=b) for a, b in INTERVALS]
    ways += [changed("without guidance", guidance=1.0)]
    ways += [changed(f"{n} steps", steps=n) for n in (12, 6, 4)]
    if student is not None:
        *learnt, own = open_model(student, device)
        for n in (4, 2):
            settings = replace(own, sample=replace(own.sample, batch=TIMED, steps=n))
            ways.append(Way(f"student, --steps {n}", *learnt, settings))
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run on scenes, or the name of the model in the box")
    parser.add_argument("--student", type=Path, help="a run of daybreak distill")
    parser.add_argument("--no-intervals", action="store_true")
    parser.add_argument("--per-task", type=int, default=48, help="prompts of each of the six tasks")
    parser.add_argument("--pictures", type=int, default=400, help="behind the Fréchet distance")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-append", action="store_true", help="print only; RESULTS.md stays as it is")
    options = parser.parse_args()
    ways = ways_of(options.model, options.student, not options.no_intervals)
    prompts = ["a large red circle above a small blue square"] * TIMED
    work: dict[str, Callable[[], object]] = {way.name: partial(way.draw, prompts) for way in ways}
    times = take_turns(work, pick_device(), options.rounds)
    lines = [
        f"{TIMED} pictures at once, {options.rounds} rounds in turns; {6 * options.per_task} prompts, and a third as "
        f"many held out; {options.pictures} pictures behind the distance.",
        "",
        "| | passes | pictures/s | to the first | prompts followed | as they stand | held out | Fréchet distance |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = statistics.median(times[ways[0].name])
    for way in ways:
        asked = replace(way.config.evaluate, prompts_per_task=options.per_task, held_out_prompts=2 * options.per_task)
        scores = judge_scenes(way.draw, asked, None, partial(way.draw, expand=False)).scores
        distance, _ = frechet_on_scenes(way.transformer, way.text_encoder, way.config, options.pictures)
        seconds = statistics.median(times[way.name])
        lines.append(
            f"| {way.name} | {way.passes} | {TIMED / seconds:.1f} | {first / seconds:.2f} x | {scores['overall']:.1%} "
            f"| {scores['as_they_stand_overall']:.1%} | {scores['held_out']:.1%} | {distance:.4f} |"
        )
        print(lines[-1], flush=True)
    record(f"Ways to draw, model `{options.model}`", lines, pick_device(), not options.no_append)


if __name__ == "__main__":
    main()
