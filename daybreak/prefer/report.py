"""What was learnt, and what it cost: the model beside what it was, from the same noise, by other judges too.

RUN/report/report.json, report.md; report/before, report/after: pictures of held-out prompts. RUN/score.json, on scenes.
RUN/report.html, the page of any run, shows them.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from daybreak.ablate.frechet import frechet_on_scenes
from daybreak.evaluate.judge import LEAST_PX
from daybreak.evaluate.pictures import save_pictures, write_captions
from daybreak.evaluate.scoring import evaluate_scenes, judge_scenes
from daybreak.parallel import Ranks
from daybreak.prefer.figures import NOISES
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.pipeline import PairwisePipeline
from daybreak.prefer.trainee import Preferring
from daybreak.sampling.generate import generate

SHOWN = 12
"""Held-out prompts whose pictures the report shows, not chosen by how they came out."""
FRECHET_PICTURES = 400
SCENES = ("overall", "one_and_two_objects", "held_out")


@dataclass(frozen=True)
class Row:
    """A figure before and after. better: higher, lower, or neither. share: told in per cent. interval: of
    the change, 95 %, where there is one.
    """

    what: str
    before: float
    after: float
    better: str = "higher"
    share: bool = False
    interval: tuple[float, float] | None = None

    def cells(self) -> list[str]:
        """What, before, after, better."""
        shown = (lambda v: f"{v:.1%}") if self.share else (lambda v: f"{v:.4g}")
        return [self.what, shown(self.before), shown(self.after), self.better]


def report_own(trainee: Preferring) -> list[str]:
    """Measures a model of our own beside its reference, writes RUN/report; returns its verdict, sentences."""
    lessons = trainee.lessons
    assert lessons is not None and trainee.reference is not None and trainee.reference_text is not None
    now, then = trainee.drawing_networks(), (trainee.reference, trainee.reference_text)
    lessons.measure(trainee.draw_with(*now), trainee.draw_with(*then))
    rows, config = held_out_rows(lessons), trainee.config
    if config.data.source == "scenes" and config.data.resolution >= LEAST_PX:
        scores = evaluate_scenes(*now, config, lessons.folder, Ranks()).scores
        e = config.evaluate
        was = judge_scenes(lambda prompts: generate(*then, prompts, config, e.seed), e, None).scores
        names = [*SCENES, *(k for k in was if k.startswith("attribute_"))]
        rows += [
            Row(f"scenes: {k.replace('attribute_', '').replace('_', ' ')}", was[k], scores[k], share=True)
            for k in names
            if k in was and k in scores
        ]
        distances = [frechet_on_scenes(*n, config, FRECHET_PICTURES)[0] for n in (then, now)]
        rows.append(Row("scenes: Fréchet distance", distances[0], distances[1], better="lower"))
    return write(lessons, rows, trainee.step)


def report_pipeline(trainee: PairwisePipeline) -> list[str]:
    """The same of a pipeline, of which the judges and the pictures themselves tell."""
    with trainee.base.drawing():
        trainee.lessons.measure(trainee.draw_now(), trainee.draw_reference())
    return write(trainee.lessons, held_out_rows(trainee.lessons), trainee.step)


def held_out_rows(lessons: Lessons) -> list[Row]:
    """The yardstick's figures, of what was measured last."""
    before, after = lessons.yardstick.before, lessons.last
    assert before is not None and after is not None
    s, rows = lessons.settings, []
    names = {"judge": f"judge {s.judge}", "check": f"other judge, {s.check or 'scenes'}"}
    for name, scores in after.scores.items():
        was, what = before.scores[name], f"{names[name]}, held-out prompts"
        rows.append(Row(what, float(was.mean()), float(scores.mean()), interval=_change(was, scores)))
    rows.append(Row("spread between pictures of a prompt", before.diversity, after.diversity))
    rows.append(Row("drift from the reference", 0.0, after.drift(before), better="neither"))
    return rows


def _change(before: Tensor, after: Tensor) -> tuple[float, float]:
    """95 % interval of the mean change; pictures of a prompt go together."""
    change = (after - before).view(-1, NOISES).mean(dim=1)
    half = 1.96 * float(change.std()) / math.sqrt(len(change)) if len(change) > 1 else math.inf
    return float(change.mean()) - half, float(change.mean()) + half


def verdict(rows: list[Row], alarms: list[tuple[str, str]]) -> list[str]:
    """Sentences: what changed for sure, and what speaks against it."""
    lines = []
    for row in rows:
        if row.interval is not None:
            low, high = row.interval
            word = "rose" if low > 0 else "fell" if high < 0 else "did not change for sure"
            lines.append(f"{row.what}: {word}, from {row.before:.4g} to {row.after:.4g} ({low:+.3g} to {high:+.3g})")
    return lines + [text for _, text in alarms]


def write(lessons: Lessons, rows: list[Row], steps: int) -> list[str]:
    """report.json, report.md and the pictures. Returns the verdict."""
    before, after = lessons.yardstick.before, lessons.last
    assert before is not None and after is not None
    folder = lessons.folder / "report"
    shutil.rmtree(folder, ignore_errors=True)
    prompts = lessons.yardstick.prompts[:SHOWN]
    general = []
    for name, seen in (("before", before), ("after", after)):
        files = [f"{i:05d}.png" for i in range(len(prompts))]
        (folder / name).mkdir(parents=True)
        save_pictures(seen.pictures[::NOISES][: len(prompts)], [folder / name / f for f in files])
        write_captions(folder / name, files, prompts)
    for i, prompt in enumerate(prompts):
        general.append({"prompt": prompt, "file": f"report/before/{i:05d}.png", "other": f"report/after/{i:05d}.png"})
    lines = verdict(rows, lessons.yardstick.alarms(after))
    cells = [row.cells() for row in rows]
    found: dict[str, Any] = {
        "heading": "What was learnt, and what it cost",
        "columns": ["before", "after"],
        "general_heading": "Held-out prompts, before and after, from the same noise",
        "steps": steps,
        "verdict": lines,
        "rows": cells,
        "figures": {row.what: [row.before, row.after] for row in rows},
        "notes": [],
        "general": general,
    }
    (folder / "report.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    table = ["| | before | after | better |", "|---|---|---|---|", *(f"| {' | '.join(c)} |" for c in cells)]
    text = [f"# Preferences learnt in {steps} steps", "", *(f"- {line}" for line in lines), "", *table]
    (folder / "report.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    return lines
