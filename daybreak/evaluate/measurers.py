"""How each metric is measured: the functions that METRICS (measures.py) names, given its name and the workbench."""

from __future__ import annotations

import json
from functools import partial

import torch

from daybreak.config import EvaluateConfig
from daybreak.evaluate import day_check as checks
from daybreak.evaluate.clipscore import measure_clipscore
from daybreak.evaluate.distribution import frechet_value, measure_distance, measure_inception_score
from daybreak.evaluate.downloads import GENEVAL_PROMPTS, fetch
from daybreak.evaluate.features.extract import extract
from daybreak.evaluate.geneval.detect import Colors, Detector
from daybreak.evaluate.geneval.prompts import read_prompts
from daybreak.evaluate.geneval.run import draw_prompts, measure_geneval, read_layout
from daybreak.evaluate.measures import METRICS, Measure
from daybreak.evaluate.memorisation import measure_memorised
from daybreak.evaluate.pictures import open_pictures
from daybreak.evaluate.questions import read_questions
from daybreak.evaluate.scoring import judge_scenes
from daybreak.evaluate.subjects import Drawer
from daybreak.evaluate.vqa import PER_PROMPT, Answerer, measure_vqa
from daybreak.evaluate.workbench import Workbench
from daybreak.sampling.rewrite import Rewriter


def distance(name: str, bench: Workbench) -> Measure:
    """Fréchet and kernel distances between the features of the pictures and those of the reference."""
    network = METRICS[name].network
    assert network is not None
    reference = bench.features("reference", network)
    return measure_distance(name, bench.features("pictures", network), reference, bench.device)


def inception_score(_: str, bench: Workbench) -> Measure:
    """Of the classes that Inception gives the pictures."""
    return measure_inception_score(bench.features("pictures", "inception_classes").features)


def clipscore(_: str, bench: Workbench) -> Measure:
    """Over pictures that have captions."""
    return measure_clipscore(bench.folder("pictures"), bench.clip(), bench.device, bench.ranks, bench.out)


def geneval(name: str, bench: Workbench) -> Measure:
    """With "geneval_rewritten" a language model makes the prompts longer first."""
    detector = Detector(bench.request.weights.get("mask2former"), bench.device)
    bench.note(detector.note)
    colors = Colors(bench.clip(), bench.device)
    if bench.subject.drawer is not None:
        prompts = read_prompts(bench.request.geneval_prompts or fetch(GENEVAL_PROMPTS, bench.tell))
        detector.check(prompts)
        folder = bench.fresh(name)
        texts = _rewrite([p.text for p in prompts], bench) if name == "geneval_rewritten" else None
        draw_prompts(prompts, bench.subject.drawer, folder, bench.ranks, texts)
    else:
        assert bench.subject.pictures is not None
        folder = bench.subject.pictures.path
    pictures = read_layout(folder)
    return measure_geneval(pictures, detector, colors, bench.ranks, bench.out, bench.tell, name)


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


def vqa(_: str, bench: Workbench) -> Measure:
    """Questions of a file, about given pictures or PER_PROMPT of each prompt."""
    assert bench.request.questions is not None
    questions = read_questions(bench.request.questions.expanduser())
    answerer = Answerer(bench.request.weights.get("vqa"), bench.device)
    if bench.subject.drawer is not None:
        pictures = bench.draw(bench.subject, "vqa", [p for p in questions for _ in range(PER_PROMPT)])
    else:
        assert bench.subject.pictures is not None
        pictures = bench.subject.pictures
    return measure_vqa(pictures, questions, answerer, bench.ranks, bench.out)


def scenes(_: str, bench: Workbench) -> Measure:
    """The run's own score: the judge's, over prompts of the embedded world."""
    drawer, config = bench.subject.drawer, bench.subject.config
    assert drawer is not None
    settings = config.evaluate if config is not None else EvaluateConfig()

    def draw(prompts: list[str], drawer: Drawer = drawer) -> torch.Tensor:
        starts = bench.ranks.share(range(0, len(prompts), drawer.batch))
        return torch.cat(bench.ranks.interleave([drawer.draw(prompts[i : i + drawer.batch], i) for i in starts]))

    draw_plain = None if drawer.plain is None else partial(draw, drawer=drawer.plain)
    found = judge_scenes(draw, settings, bench.out if bench.ranks.first else None, draw_plain)
    parts = {k: v for k, v in found.scores.items() if k != "overall"}
    behind = {"counts": found.counts, "intervals": found.intervals}
    return Measure("scenes", found.scores["overall"], found.pictures, parts=parts, details=behind)


def memorised(_: str, bench: Workbench) -> Measure:
    """Against the training pictures; the reference's distance to them is the yardstick."""
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


def day_check(_: str, bench: Workbench) -> Measure:
    """FID over that of a baseline, with a contact sheet where the subject draws."""
    request = bench.request
    assert request.baseline is not None and bench.open_subject is not None
    reference = bench.features("reference", "inception")
    ours = bench.features("pictures", "inception")
    fid = frechet_value("fid", ours, reference, bench.device)
    baseline = bench.open_subject(request.baseline, request.drawing, bench.device)
    pictures = baseline.pictures or bench.draw(baseline, "baseline", bench.prompts())
    theirs = extract(pictures, bench.network("inception"), bench.device, bench.ranks)
    other = frechet_value("fid", theirs, reference, bench.device)
    result = checks.verdict(fid, other, baseline.name, len(ours), len(reference))
    if len(theirs) != len(ours):
        result.warnings.append(f"the baseline has {len(theirs):,} pictures: FIDs of unequal numbers compare poorly")
    if bench.subject.drawer is not None:
        prompts = [p for p in checks.diverse(bench.known_prompts()) for _ in range(checks.PICTURES_EACH)]
        sheet = bench.draw(bench.subject, "contact", prompts)
        if bench.ranks.first:
            checks.save_contact_sheet([i.path for i in sheet.items], prompts, bench.out)
        result.images = {"contact_sheet.png": "Prompts that share few words, ten pictures each, not chosen"}
    return result
