"""What was learnt, and what it cost: the model beside what it was, from the same noise, by other judges too.

RUN/report/report.json, report.md; report/before, report/after: pictures of held-out prompts. RUN/score.json, on scenes.
RUN/report.html, the page of any run, shows them.
"""

from __future__ import annotations

import json
import math
import shutil
from contextlib import nullcontext
from typing import Any

from torch import Tensor

from daybreak.evaluate.judge import LEAST_PX
from daybreak.evaluate.pictures import save_pictures, write_captions
from daybreak.finetune.family.own import own_networks
from daybreak.finetune.methods import weights
from daybreak.prefer.figures import NOISES
from daybreak.prefer.findings import Findings, Row, verdict
from daybreak.prefer.lessons import Lessons
from daybreak.prefer.pipeline import PreferringPipeline
from daybreak.prefer.real_pictures import compare_with_real
from daybreak.prefer.scenes_figures import compare_on_scenes
from daybreak.prefer.trainee import Preferring

SHOWN = 12
"""Held-out prompts whose pictures the report shows, not chosen by how they came out."""


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
        compare_on_scenes(found, lessons.folder, config, lessons.settings.count, now, then, nullcontext())
    return write(lessons, found, trainee.step)


def report_pipeline(trainee: PreferringPipeline) -> list[str]:
    """The same of a pipeline, and of an adapter of a model of our own."""
    lessons, base = trainee.lessons, trainee.base
    draw_now, draw_then = trainee.draw_now(), trainee.draw_reference()
    with base.drawing():
        lessons.measure(draw_now, draw_then)
        found = held_out(lessons)
        if not trainee.on_scenes or lessons.settings.reference is not None:
            compare_with_real(found, lessons, trainee.own_config, base.side, base.device, draw_then, draw_now)
        config = trainee.own_config
        if config is not None and trainee.on_scenes and base.side >= LEAST_PX:
            networks, as_then = own_networks(base.family), weights(base.trained, trainee.reference)
            compare_on_scenes(found, lessons.folder, config, lessons.settings.count, networks, networks, as_then)
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


def _change(before: Tensor, after: Tensor) -> tuple[float, float]:
    """95 % interval of the mean change; pictures of a prompt go together."""
    change = (after - before).view(-1, NOISES).mean(dim=1)
    half = 1.96 * float(change.std()) / math.sqrt(len(change)) if len(change) > 1 else math.inf
    return float(change.mean()) - half, float(change.mean()) + half


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
