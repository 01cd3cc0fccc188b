"""What `daybreak evaluate` does: subjects one after the other, a report for each, and a page that compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from daybreak.evaluate.comparison import Compared, write_comparison
from daybreak.evaluate.evaluation import evaluate
from daybreak.evaluate.measures import METRICS, measures_of
from daybreak.evaluate.report_evaluation import shown_value, write_evaluation_report
from daybreak.evaluate.report_terminal import print_report
from daybreak.evaluate.request import Request
from daybreak.evaluate.subjects import Subject
from daybreak.evaluate.workbench import Workbench
from daybreak.parallel import joined, pick_device
from daybreak.phases import phase
from daybreak.subjects import open_subject
from daybreak.tables import print_table
from daybreak.watch.report import write_report


def run_evaluate(console: Console, subjects: list[str], request: Request, out: Path | None) -> None:
    """Judges each subject and writes score.json and report.html; of several also comparison.html.

    Raises ConfigError for what turns out, when it is opened, not to be judged (request.py has what is known before).
    """
    with joined() as ranks:
        # torchrun has set this process's GPU, which an index-free "cuda" means.
        device = pick_device()
        compared: list[Compared] = []
        for text in subjects:
            with phase("loading the subject"):
                subject = open_subject(text, request.drawing, device)
            folder = _folder(subject, out, len(subjects))
            full = request.of(subject.config, subject.name)
            bench = Workbench(
                subject, full, folder, device, ranks, lambda line: console.print(line, markup=False), open_subject
            )
            with phase("drawing and judging"):
                score = evaluate(bench)
            if ranks.first:
                _tell(console, subject, folder, score)
            compared.append(Compared(subject.name, folder, score))
            del bench, subject
            if device.type == "cuda":
                torch.cuda.empty_cache()
        if len(compared) > 1 and ranks.first:
            page = write_comparison(compared, out or Path("evaluations"))
            console.print(f"comparison: {page}", markup=False, highlight=False, soft_wrap=True)


def _folder(subject: Subject, out: Path | None, subjects: int) -> Path:
    if out is not None:
        return out / subject.name if subjects > 1 else out
    return subject.run or Path("evaluations") / subject.name


def _tell(console: Console, subject: Subject, folder: Path, score: dict[str, Any]) -> None:
    """The report, and on the screen the figures with what must be known of them."""
    others = [m for m in measures_of(score) if m.name != "scenes"]
    if others:
        rows = []
        for m in others:
            interval = "" if m.interval is None else " to ".join(shown_value(m.name, v) for v in m.interval)
            rows.append((METRICS[m.name].title, shown_value(m.name, m.value), interval, f"{m.pictures:,}"))
        print_table(console, ("metric", "value", "95 % interval", "pictures"), rows, subject.name)
        for m in others:
            for warning in m.warnings:
                console.print(f"note: {METRICS[m.name].title}: {warning}", markup=False, highlight=False)
            if "verdict" in m.details:
                console.print(f"{METRICS[m.name].title}: {m.details['verdict']}", markup=False, highlight=False)
    if subject.config is not None and folder == subject.run:
        write_report(folder)
        print_report(console, subject.config, folder, score)
        return
    report = write_evaluation_report(folder, subject.name, score)
    console.print(f"figures: {folder / 'score.json'}\nreport: {report}", markup=False, highlight=False, soft_wrap=True)
