"""`daybreak evaluate`: measures what was asked for of one subject, and writes score.json and what the report shows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from daybreak.config import EvaluateConfig
from daybreak.evaluate import day_check
from daybreak.evaluate.checks import check_request
from daybreak.evaluate.clipscore import measure_clipscore
from daybreak.evaluate.distribution import frechet_value, measure_distance, measure_inception_score
from daybreak.evaluate.downloads import GENEVAL_PROMPTS, fetch
from daybreak.evaluate.features.extract import extract
from daybreak.evaluate.geneval import run as geneval
from daybreak.evaluate.geneval.detect import Colors, Detector
from daybreak.evaluate.geneval.prompts import read_prompts
from daybreak.evaluate.measures import METRICS, Measure
from daybreak.evaluate.memorisation import measure_memorised
from daybreak.evaluate.pictures import open_pictures
from daybreak.evaluate.questions import read_questions
from daybreak.evaluate.scoring import judge_scenes
from daybreak.evaluate.subjects import Drawer
from daybreak.evaluate.vqa import PER_PROMPT, Answerer, measure_vqa
from daybreak.evaluate.workbench import Workbench
from daybreak.sampling.rewrite import Rewriter


def evaluate(bench: Workbench) -> dict[str, Any]:
    """Measures everything asked for and returns what it writes into score.json.

    Raises ConfigError before the first picture is drawn where something needed is missing.
    """
    check_request(bench.request, bench.subject.drawer is not None, bench.subject.config)
    bench.out.mkdir(parents=True, exist_ok=True)
    score: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name in bench.request.metrics:
        began = time.monotonic()
        bench.tell(f"{METRICS[name].title} ...")
        measure = MEASURERS[name](bench)
        bench.seconds[name] = time.monotonic() - began
        if name == "scenes":
            score |= {**measure.parts, "overall": measure.value}
        else:
            others[name] = measure.as_json()
    bench.show_pictures()
    if others:
        score |= {"metrics": others, "about": bench.about()}
    if bench.ranks.first:
        (bench.out / "score.json").write_text(json.dumps(score, indent=2) + "\n")
    return score


def _distance(name: str, bench: Workbench) -> Measure:
    network = METRICS[name].network
    assert network is not None
    reference = bench.features("reference", network)
    return measure_distance(name, bench.features("pictures", network), reference, bench.device)


def _inception_score(bench: Workbench) -> Measure:
    return measure_inception_score(bench.features("pictures", "inception_classes").features)


def _clipscore(bench: Workbench) -> Measure:
    return measure_clipscore(bench.folder("pictures"), bench.clip(), bench.device, bench.ranks, bench.out)


def _geneval(bench: Workbench, rewritten: bool = False) -> Measure:
    name = "geneval_rewritten" if rewritten else "geneval"
    detector = Detector(bench.request.weights.get("mask2former"), bench.device)
    bench.note(detector.note)
    colors = Colors(bench.clip(), bench.device)
    if bench.subject.drawer is not None:
        prompts = read_prompts(bench.request.geneval_prompts or fetch(GENEVAL_PROMPTS, bench.tell))
        detector.check(prompts)
        folder = bench.fresh(name)
        texts = _rewrite([p.text for p in prompts], bench) if rewritten else None
        geneval.draw_prompts(prompts, bench.subject.drawer, folder, bench.ranks, texts)
    else:
        assert bench.subject.pictures is not None
        folder = bench.subject.pictures.path
    pictures = geneval.read_layout(folder)
    return geneval.measure_geneval(pictures, detector, colors, bench.ranks, bench.out, bench.tell, name)


def _rewrite(prompts: list[str], bench: Workbench) -> list[str]:
    """Longer prompts; rewritten.jsonl holds each beside what it was."""
    rewriter = Rewriter(bench.request.weights.get("rewriter"), bench.device)
    texts = bench.ranks.interleave([rewriter.rewrite(p) for p in bench.ranks.share(prompts)])
    if bench.ranks.first:
        rows = [{"prompt": p, "rewritten": t} for p, t in zip(prompts, texts, strict=True)]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (bench.out / "rewritten.jsonl").write_text("".join(lines), encoding="utf-8")
    bench.note(f"geneval_rewritten: prompts made longer by {rewriter.source}, see rewritten.jsonl")
    return texts


def _vqa(bench: Workbench) -> Measure:
    assert bench.request.questions is not None
    questions = read_questions(bench.request.questions.expanduser())
    answerer = Answerer(bench.request.weights.get("vqa"), bench.device)
    if bench.subject.drawer is not None:
        pictures = bench.draw(bench.subject, "vqa", [p for p in questions for _ in range(PER_PROMPT)])
    else:
        assert bench.subject.pictures is not None
        pictures = bench.subject.pictures
    return measure_vqa(pictures, questions, answerer, bench.ranks, bench.out)


def _scenes(bench: Workbench) -> Measure:
    drawer, config = bench.subject.drawer, bench.subject.config
    assert drawer is not None
    settings = config.evaluate if config is not None else EvaluateConfig()

    def draw(prompts: list[str], drawer: Drawer = drawer) -> torch.Tensor:
        starts = bench.ranks.share(range(0, len(prompts), drawer.batch))
        return torch.cat(bench.ranks.interleave([drawer.draw(prompts[i : i + drawer.batch], i) for i in starts]))

    draw_plain = None if drawer.plain is None else partial(draw, drawer=drawer.plain)
    found = judge_scenes(draw, settings, bench.out if bench.ranks.first else None, draw_plain)
    parts = {k: v for k, v in found.scores.items() if k != "overall"}
    return Measure("scenes", found.scores["overall"], found.pictures, parts=parts)


def _memorised(bench: Workbench) -> Measure:
    training = bench.request.training_folder(bench.subject.config)
    assert training is not None
    return measure_memorised(
        bench.features("pictures", "dinov2"),
        bench.folder("pictures"),
        bench.features("reference", "dinov2"),
        open_pictures(training, "--training"),
        bench.network("dinov2"),
        bench.device,
        bench.ranks,
        bench.out,
    )


def _day_check(bench: Workbench) -> Measure:
    request = bench.request
    assert request.baseline is not None and bench.open_subject is not None
    reference = bench.features("reference", "inception")
    ours = bench.features("pictures", "inception")
    fid = frechet_value("fid", ours, reference, bench.device)
    baseline = bench.open_subject(request.baseline, request.drawing, bench.device)
    pictures = baseline.pictures or bench.draw(baseline, "baseline", bench.prompts())
    theirs = extract(pictures, bench.network("inception"), bench.device, bench.ranks)
    other = frechet_value("fid", theirs, reference, bench.device)
    result = day_check.verdict(fid, other, baseline.name, len(ours), len(reference))
    if len(theirs) != len(ours):
        result.warnings.append(f"the baseline has {len(theirs):,} pictures: FIDs of unequal numbers compare poorly")
    if bench.subject.drawer is not None:
        prompts = [p for p in day_check.diverse(bench.known_prompts()) for _ in range(day_check.PICTURES_EACH)]
        sheet = bench.draw(bench.subject, "contact", prompts)
        if bench.ranks.first:
            day_check.save_contact_sheet([i.path for i in sheet.items], prompts, bench.out)
        result.images = {"contact_sheet.png": "Prompts that share few words, ten pictures each, not chosen"}
    return result


MEASURERS: dict[str, Callable[[Workbench], Measure]] = {
    **{name: partial(_distance, name) for name in ("fid", "kid", "cmmd", "fd_dinov2", "dino_mmd")},
    "is": _inception_score,
    "clipscore": _clipscore,
    "geneval": _geneval,
    "geneval_rewritten": partial(_geneval, rewritten=True),
    "vqa": _vqa,
    "scenes": _scenes,
    "memorised": _memorised,
    "day_check": _day_check,
}
"""One function a metric of METRICS."""
