"""After training: what was gained on the domain, what was forgotten, and pictures of both; as JSON and Markdown.

RUN/report/   report.json, report.md, contact_sheet.png, contact_sheet_base.png, general.png, tuned/, base/
RUN/report.html, the page of any run, shows them beside curves and samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daybreak.config import ConfigError
from daybreak.data.listing import Item
from daybreak.evaluate import day_check
from daybreak.evaluate.evaluation import evaluate
from daybreak.evaluate.measures import METRICS, measures_of
from daybreak.evaluate.memorisation import measure_memorised
from daybreak.evaluate.mosaic import Tile, save_mosaic
from daybreak.evaluate.pictures import PictureFolder, open_pictures, save_pictures, write_captions
from daybreak.evaluate.report_evaluation import shown_value
from daybreak.evaluate.request import Request
from daybreak.evaluate.subjects import Drawer, Subject
from daybreak.evaluate.workbench import Workbench
from daybreak.finetune.advice import DRIFT, FORGETTING
from daybreak.finetune.cache import Cache
from daybreak.finetune.drawing import AT_ONCE, draw, draw_each
from daybreak.finetune.probes import drift
from daybreak.finetune.settings import FinetuneSettings
from daybreak.finetune.trainee import Diffusers
from daybreak.parallel import Ranks
from daybreak.run_folder import REPORT
from daybreak.watch.report import write_report as write_page

COMPARED = ("fid", "kid", "clipscore")
EXCELLENT_FID = 20.0
"""The recipe's, in a narrow domain."""
ENOUGH = 50
"""A FID of fewer pictures says nothing."""


class _Drawer:
    """A pipeline as daybreak/evaluate has pictures drawn."""

    batch = AT_ONCE
    plain = None

    def __init__(self, pipeline: Any, settings: FinetuneSettings, cache: Cache, side: int) -> None:
        self._pipeline, self._settings, self._cache, self._side = pipeline, settings, cache, side

    def draw(self, prompts: list[str], first: int) -> Any:
        """Pictures [3, H, W], which become files: number n depends on n and its prompt. Of a caption of a picture each
        has the shape of that."""
        shapes = [self._cache.shape_of(prompt) or (self._side, self._side) for prompt in prompts]
        return draw_each(self._pipeline, prompts, self._settings, shapes, seed=first + 1)


def make_report(run: Diffusers, weights: dict[str, str], pictures: int, tell: Callable[[str], None]) -> Path:
    """Draws with the averaged weights and with the base, measures both, and writes the report. Returns RUN/report.html.

    `weights`: networks of the metrics in place of downloads; `pictures`: how many are compared with the held-out ones.
    What cannot be measured, such as a FID without its network, is said in the report and is no error.
    """
    folder = run.folder / "report"
    folder.mkdir(exist_ok=True)
    base, settings = run.base, run.settings
    found: dict[str, Any] = {"method": settings.method, "base": settings.base, "steps": run.step}
    found["learning rate"] = settings.learning_rate

    def compare(name: str, pipeline: Any) -> dict[str, Any]:
        drawer = _Drawer(pipeline, settings, run.cache, base.side)
        return judge(run.folder, name, drawer, _captions(run), weights, pictures, base.device, Ranks(), tell)

    with base.drawing():
        losses = run.probe_losses()
        found["tuned"] = compare("tuned", base.family.pipeline)
        tell("drawing the general prompts again ...")
        prompts = [i.caption for i in open_pictures(run.folder / "general", "general").items]
        found["drift"] = show_general(run.folder, draw(base.family.pipeline, prompts, settings, base.side))
    with torch.no_grad():
        found["base_model"] = compare("base", base.leave())
    found["advice"] = [{"step": step, "alarm": a.alarm, "text": a.text} for step, a in run.adviser.given]
    found["probes"] = probes_of(run.folder)
    return write_report(run.folder, found, run.start, losses)


def write_report(run: Path, found: dict[str, Any], start: dict[str, float], losses: dict[str, float]) -> Path:
    """Adds losses and verdict to what was found, and writes it as JSON, Markdown and HTML. Returns RUN/report.html."""
    folder = run / "report"
    found["losses"] = {
        name: {"base": start[name], "tuned": loss, "change": loss / start[name] - 1} for name, loss in losses.items()
    }
    found["verdict"] = verdict(found)
    found |= {"rows": _rows(found), "notes": _notes(found), **_pictures(run, found)}
    (run / REPORT).write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    (folder / "report.md").write_text(_markdown(found), encoding="utf-8")
    return write_page(run)


def probes_of(run: Path) -> list[dict[str, Any]]:
    """The step and the losses of each probe in a run's log, oldest first."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{"step": e["step"], **e["values"]} for e in events if e["event"] == "probe"]


def verdict(found: dict[str, Any]) -> list[str]:
    """Sentences: the domain, the FID against the base's, forgetting, memorisation."""
    lines = []
    losses = found["losses"]
    if "domain" in losses:
        change = losses["domain"]["change"]
        word = "gained" if change < 0 else "not gained"
        lines.append(f"the domain was {word}: the loss on held-out pictures changed by {change:+z.1%}")
    else:
        lines.append("no picture was held out: the gain is not measured")
    ours, theirs = found["tuned"].get("fid"), found["base_model"].get("fid")
    if ours and theirs:
        ratio = ours["value"] / max(theirs["value"], 1e-12)
        passed = "a success" if ratio <= 1 + day_check.TOLERANCE else "not a success"
        excellent = "; under 20 is excellent in a narrow domain" if ours["value"] < EXCELLENT_FID else ""
        lines.append(
            f"{passed}: FID on held-out pictures is {ours['value']:.1f}, of the base {theirs['value']:.1f}{excellent}"
        )
    change, moved = losses["general"]["change"], found["drift"]
    much = change > FORGETTING or (moved is not None and moved > DRIFT)
    little = change > 0.01 or (moved is not None and moved > DRIFT / 2)
    word = "much was forgotten" if much else "little was forgotten" if little else "nothing forgotten"
    shown = "" if moved is None else f", and from the same noise these moved {moved:.0%} of the way between two prompts"
    lines.append(f"{word}: the loss on the base's own pictures of general prompts changed by {change:+z.1%}{shown}")
    if (before := found["base_model"].get("follows")) and (after := found["tuned"]["follows"]):
        of = "of the base's own prompts {:.0%} are followed, {:.0%} by the base"
        lines.append(of.format(after["overall"], before["overall"]))
    if memorised := found["tuned"].get("memorised"):
        lines.append(f"{memorised['value']:.0%} of the pictures are nearer to a training picture than real ones are")
    return lines


def _captions(run: Diffusers) -> list[str]:
    cache = run.cache
    return [cache.captions[i] for i in cache.held_out or cache.training]


def judge(
    run: Path, name: str, drawer: Drawer, captions: list[str], weights: dict[str, str], pictures: int,
    device: torch.device, ranks: Ranks, tell: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Of "tuned" or "base": the contact sheet of ten of the `captions`, and metrics against RUN/held_out."""
    folder, held = run / "report", run / "held_out"
    folder.mkdir(exist_ok=True)
    request = Request(reference=held if held.is_dir() else None, count=pictures, weights=weights)
    bench = Workbench(Subject(name, drawer=drawer), request, folder / name, device, ranks, tell)
    contact = [p for p in day_check.diverse(captions) for _ in range(day_check.PICTURES_EACH)]
    sheet = bench.draw(bench.subject, "contact", contact)
    tiles = day_check.contact_tiles([i.path for i in sheet.items], contact)
    target = folder / ("contact_sheet.png" if name == "tuned" else f"contact_sheet_{name}.png")
    save_mosaic(tiles, target, columns=day_check.PICTURES_EACH, side=120)
    rows = [
        {"prompt": p, "file": i.path.relative_to(run).as_posix()} for p, i in zip(contact, sheet.items, strict=True)
    ]
    result: dict[str, Any] = {"contact": rows, "not measured": {}}
    if not held.is_dir():
        result["not measured"]["all"] = "no picture was held out"
        return result
    for metric in COMPARED:
        bench.request = Request(metrics=(metric,), reference=held, count=pictures, weights=weights)
        try:
            measures = measures_of(evaluate(bench))
        except ConfigError as e:
            result["not measured"][metric] = str(e)
            continue
        result |= {m.name: m.as_json() for m in measures}
    return result | (_memorised(run, bench) if name == "tuned" else {})


def _memorised(run: Path, bench: Workbench) -> dict[str, Any]:
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    items = [Item(Path(row["key"]), row["text"]) for row in lines]
    if not items or not items[0].path.is_file():
        return {}
    training = PictureFolder(run, items)
    try:
        drawn, held = bench.features("pictures", "dinov2"), bench.features("reference", "dinov2")
        network = bench.network("dinov2")
        found = measure_memorised(
            drawn, bench.folder("pictures"), held, training, network, bench.device, bench.ranks, run / "report"
        )
    except ConfigError:
        return {}
    return {"memorised": found.as_json()}


def show_general(run: Path, after: Tensor) -> float | None:
    """general.png: the base's picture of each general prompt, before training, beside today's from the same noise.

    Returns how far they moved (probes.drift).
    """
    before, folder = open_pictures(run / "general", "general"), run / "report"
    target = folder / "general"
    target.mkdir(parents=True, exist_ok=True)
    names = [i.path.name for i in before.items]
    save_pictures(after, [target / n for n in names])
    write_captions(target, names, [i.caption for i in before.items])
    pairs = [(Tile(i.path, i.caption), Tile(target / i.path.name, "after")) for i in before.items]
    save_mosaic([t for pair in pairs for t in pair], folder / "general.png")
    return drift(run, after)


def _rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(what, base, tuned, better)."""
    names = {"domain": "loss on held-out pictures", "general": "loss on general prompts (forgetting)"}
    rows = [(names[k], f"{v['base']:.4f}", f"{v['tuned']:.4f}", "lower") for k, v in found["losses"].items()]
    if found["drift"] is not None:
        rows.append(("drift of general pictures", "0 %", f"{100 * found['drift']:.0f} %", "lower"))
    for name, share in found["base_model"].get("follows", {}).items():
        after = found["tuned"]["follows"][name]
        words = name.replace("_", " ")
        rows.append((f"prompts of the base that are followed, {words}", f"{share:.0%}", f"{after:.0%}", "higher"))
    for metric in (*COMPARED, "memorised"):
        values = [found[who].get(metric) for who in ("base_model", "tuned")]
        base, tuned = ("not measured" if v is None else shown_value(metric, v["value"]) for v in values)
        if any(values):
            rows.append((METRICS[metric].title, base, tuned, METRICS[metric].better))
    return rows


def _notes(found: dict[str, Any]) -> list[str]:
    missing = found["tuned"]["not measured"]
    told = [f"{METRICS[k].title if k in METRICS else k} was not measured: {reason}" for k, reason in missing.items()]
    return told + [f"step {a['step']}: {a['text']}" for a in found["advice"]]


def _pictures(run: Path, found: dict[str, Any]) -> dict[str, Any]:
    """What the page shows: prompts of the domain drawn by both, general prompts before and after, near neighbours."""
    ours, theirs = found["tuned"].pop("contact"), found["base_model"].pop("contact")
    contact = [
        {"prompt": a["prompt"], "file": a["file"], "other": b["file"]} for a, b in zip(ours, theirs, strict=True)
    ]
    before = open_pictures(run / "general", "general").items
    general = [
        {"prompt": i.caption, "file": f"general/{i.path.name}", "other": f"report/general/{i.path.name}"}
        for i in before
    ]
    nearest = "The generated pictures that come nearest to training, each beside its neighbour"
    sheets = [{"sheet": "report/nearest.png", "caption": nearest}] if (run / "report" / "nearest.png").is_file() else []
    return {"contact": contact, "general": general, "sheets": sheets}


def _markdown(found: dict[str, Any]) -> str:
    lines = [f"# Fine-tuned: {Path(found['base']).name}, {found['method']}, {found['steps']} steps", ""]
    lines += [f"- {line}" for line in found["verdict"]]
    lines += ["", "| | base | fine-tuned | better |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in found["rows"]]
    lines += ["", *(f"- {line}" for line in found["notes"])]
    return "\n".join(lines) + "\n"


def figures(run: Path) -> dict[str, float]:
    """The figures that the report of a run holds, by name: of the result, and with `_base` of the base."""
    found = _read(run)
    values = {f"{name}_loss_change": loss["change"] for name, loss in found["losses"].items()}
    if found["drift"] is not None:
        values["drift"] = found["drift"]
    for which, ending in (("tuned", ""), ("base_model", "_base")):
        measured = {k: v["value"] for k, v in found[which].items() if isinstance(v, dict) and "value" in v}
        values |= {f"{name}{ending}": value for name, value in measured.items()}
    return values


def summary(run: Path) -> list[str]:
    """The verdict that the report of a run holds."""
    found: list[str] = _read(run)["verdict"]
    return found


def _read(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / REPORT).read_text()))
