"""What was learnt, and what it cost: the model beside what it was, from the same noise, by other judges too.

RUN/report/report.json, report.md; report/before, report/after: pictures of held-out prompts. RUN/score.json, on scenes.
RUN/report.html, the page of any run, shows them.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from daybreak.ablate.frechet import frechet_on_scenes
from daybreak.config import Config, ConfigError
from daybreak.evaluate.judge import LEAST_PX
from daybreak.evaluate.pictures import save_pictures, write_captions
from daybreak.evaluate.scoring import evaluate_scenes, judge_scenes
from daybreak.parallel import Ranks
from daybreak.prefer.figures import NOISES, SURE
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.pipeline import PairwisePipeline
from daybreak.prefer.ranking import Draw
from daybreak.prefer.real_pictures import measure_fid
from daybreak.prefer.trainee import Preferring
from daybreak.sampling.generate import generate

SHOWN = 12
"""Held-out prompts whose pictures the report shows, not chosen by how they came out."""
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


@dataclass
class Findings:
    """rows: figures before and after. alarms: sentences on what speaks against what was learnt. notes: what a reader of
    the figures has to know, and what was not measured, and why."""

    rows: list[Row]
    alarms: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def report_own(trainee: Preferring) -> list[str]:
    """Measures a model of our own beside its reference, writes RUN/report; returns its verdict, sentences."""
    lessons = trainee.lessons
    assert lessons is not None and trainee.reference is not None and trainee.reference_text is not None
    now, then = trainee.drawing_networks(), (trainee.reference, trainee.reference_text)
    draw_now, draw_then = trainee.draw_with(*now), trainee.draw_with(*then)
    lessons.measure(draw_now, draw_then)
    found, config = held_out(lessons), trainee.config
    side = config.data.resolution
    if config.data.source != "scenes" or lessons.settings.reference is not None:
        compare_with_real(found, lessons, config, side, trainee.device, draw_then, draw_now)
    if config.data.source == "scenes" and side >= LEAST_PX:
        scores = evaluate_scenes(*now, config, lessons.folder, Ranks()).scores
        e = config.evaluate
        was = judge_scenes(lambda prompts: generate(*then, prompts, config, e.seed), e, None).scores
        names = [*SCENES, *(k for k in was if k.startswith("attribute_"))]
        found.rows += [
            Row(f"scenes: {k.replace('attribute_', '').replace('_', ' ')}", was[k], scores[k], share=True)
            for k in names
            if k in was and k in scores
        ]
        distances = [frechet_on_scenes(*n, config, lessons.settings.count)[0] for n in (then, now)]
        found.rows.append(Row("scenes: Fréchet distance", distances[0], distances[1], better="lower"))
    return write(lessons, found, trainee.step)


def report_pipeline(trainee: PairwisePipeline) -> list[str]:
    """The same of a pipeline, and of an adapter of a model of our own."""
    lessons, base = trainee.lessons, trainee.base
    draw_now, draw_then = trainee.draw_now(), trainee.draw_reference()
    with base.drawing():
        lessons.measure(draw_now, draw_then)
        found = held_out(lessons)
        if not trainee.on_scenes or lessons.settings.reference is not None:
            compare_with_real(found, lessons, trainee.own_config, base.side, base.device, draw_then, draw_now)
    return write(lessons, found, trainee.step)


def held_out(lessons: Lessons) -> Findings:
    """The yardstick's figures, of what was measured last."""
    before, after = lessons.yardstick.before, lessons.last
    assert before is not None and after is not None
    panel, rows = lessons.yardstick.panel, []
    for name, scores in after.scores.items():
        was, what = before.scores[name], f"{panel.titles[name]}, held-out prompts"
        rows.append(Row(what, float(was.mean()), float(scores.mean()), interval=_change(was, scores)))
    rows.append(Row("spread between pictures of a prompt", before.diversity, after.diversity))
    rows.append(Row("drift from the reference", 0.0, after.drift(before), better="neither"))
    alarms = [text for _, text in lessons.yardstick.alarms(after)]
    return Findings(rows, alarms, list(panel.missing))


def compare_with_real(
    found: Findings, lessons: Lessons, config: Config | None, side: int, device: torch.device, before: Draw, after: Draw
) -> None:
    """Adds the FID to real pictures, or why it was not measured; see `measure_fid`."""
    try:
        fid = measure_fid(lessons, config, side, device, before, after)
    except ConfigError as e:
        found.notes.append(f"FID was not measured: {e}")
        return
    was, now = fid.before.value, fid.after.value
    title = f"FID of {fid.after.pictures} pictures to {fid.after.reference} real ones"
    found.rows.append(Row(title, was, now, better="lower"))
    found.notes += [f"FID: {warning}" for warning in fid.after.warnings]
    if now - was > SURE * fid.error:
        found.alarms.append(f"the FID to real pictures rose from {was:.4g} to {now:.4g}: drawn ones became less alike")


def _change(before: Tensor, after: Tensor) -> tuple[float, float]:
    """95 % interval of the mean change; pictures of a prompt go together."""
    change = (after - before).view(-1, NOISES).mean(dim=1)
    half = 1.96 * float(change.std()) / math.sqrt(len(change)) if len(change) > 1 else math.inf
    return float(change.mean()) - half, float(change.mean()) + half


def verdict(found: Findings) -> list[str]:
    """Sentences: what changed for sure, and what speaks against it."""
    lines = []
    for row in found.rows:
        if row.interval is not None:
            low, high = row.interval
            word = "rose" if low > 0 else "fell" if high < 0 else "did not change for sure"
            lines.append(f"{row.what}: {word}, from {row.before:.4g} to {row.after:.4g} ({low:+.3g} to {high:+.3g})")
    return lines + found.alarms


def write(lessons: Lessons, found: Findings, steps: int) -> list[str]:
    """report.json, report.md and the pictures. Returns the verdict and the notes."""
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
    lines, notes = verdict(found), found.notes
    cells = [row.cells() for row in found.rows]
    told: dict[str, Any] = {
        "heading": "What was learnt, and what it cost",
        "columns": ["before", "after"],
        "general_heading": "Held-out prompts, before and after, from the same noise",
        "steps": steps,
        "verdict": lines,
        "rows": cells,
        "figures": {row.what: [row.before, row.after] for row in found.rows},
        "notes": notes,
        "general": general,
    }
    (folder / "report.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    table = ["| | before | after | better |", "|---|---|---|---|", *(f"| {' | '.join(c)} |" for c in cells)]
    text = [f"# Preferences learnt in {steps} steps", "", *(f"- {line}" for line in lines), "", *table]
    text += ["", *(f"- {note}" for note in notes)] if notes else []
    (folder / "report.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    return lines + notes
