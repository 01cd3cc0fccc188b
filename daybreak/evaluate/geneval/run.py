"""GenEval from sampling to score. Pictures lie in the layout of its authors' scripts, which can score them too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from daybreak.config import ConfigError
from daybreak.data.batch import Skipped
from daybreak.evaluate.geneval.detect import Colors, Detector
from daybreak.evaluate.geneval.prompts import TASKS, GenEvalPrompt, parse_prompt
from daybreak.evaluate.geneval.scoring import judge, scores
from daybreak.evaluate.measures import Measure
from daybreak.evaluate.metrics import share_interval
from daybreak.evaluate.mosaic import Tile, save_mosaic
from daybreak.evaluate.pictures import read_picture, save_pictures
from daybreak.evaluate.subjects import Drawer
from daybreak.parallel import Ranks

PER_PROMPT = 4
SHOWN_PER_TASK = 6


@dataclass(frozen=True)
class Judged:
    """A picture, its prompt and the verdict."""

    path: str
    task: str
    prompt: str
    correct: bool
    reason: str


def draw_prompts(
    prompts: list[GenEvalPrompt], drawer: Drawer, folder: Path, ranks: Ranks, drawn_texts: list[str] | None = None
) -> None:
    """Four pictures of each prompt as folder/00000/samples/0000.png, with its metadata.jsonl beside `samples`.

    `drawn_texts`: what the model is given in place of the prompts (see `rewrite`); judged are the prompts themselves.
    """
    texts = drawn_texts or [p.text for p in prompts]
    for number, prompt in enumerate(prompts):  # every process writes the same
        (folder / f"{number:05d}" / "samples").mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05d}" / "metadata.jsonl").write_text(json.dumps(prompt.metadata) + "\n")
    jobs = [(n, k) for n in range(len(prompts)) for k in range(PER_PROMPT)]
    chunks = [jobs[i : i + drawer.batch] for i in range(0, len(jobs), drawer.batch)]
    for i, chunk in ranks.share(list(enumerate(chunks))):
        drawn = drawer.draw([texts[n] for n, _ in chunk], i * drawer.batch)
        save_pictures(drawn, [folder / f"{n:05d}" / "samples" / f"{k:04d}.png" for n, k in chunk])
    ranks.gather(None)


def read_layout(folder: Path) -> list[tuple[Path, GenEvalPrompt]]:
    """The pictures of a folder in GenEval's layout. Raises ConfigError where it is none."""
    found = []
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()):
        metadata = sub / "metadata.jsonl"
        if metadata.is_file():
            prompt = parse_prompt(metadata.read_text(), str(metadata))
            found += [(path, prompt) for path in sorted((sub / "samples").glob("*.png"))]
    if not found:
        raise ConfigError(
            f"{folder} has not GenEval's layout: 00000/metadata.jsonl with a prompt's line, 00000/samples/0000.png ..."
        )
    return found


def measure_geneval(
    pictures: list[tuple[Path, GenEvalPrompt]], detector: Detector, colors: Colors, ranks: Ranks, out: Path,
    tell: Callable[[str], None], name: str = "geneval",
) -> Measure:  # fmt: skip
    """Judges every picture; writes NAME.jsonl with every verdict and NAME_failures.png into `out`."""
    detector.check([p for _, p in pictures])
    judged: list[Judged] = []
    skipped: list[Skipped] = []
    for path, prompt in ranks.share(pictures):
        try:
            image = read_picture(path)
        except ValueError as e:
            skipped.append(Skipped(str(path), str(e)))
            continue
        verdict = judge(prompt, detector.detect(image), partial(colors.of, image))
        judged.append(Judged(str(path), prompt.task, prompt.text, verdict.correct, verdict.reason))
    everyones = sorted((j for part in ranks.gather(judged) for j in part), key=lambda j: j.path)
    missing = [s for part in ranks.gather(skipped) for s in part]
    if not everyones:
        raise ConfigError(f"GenEval: none of {len(pictures)} pictures is readable")
    tasks, correct = [j.task for j in everyones], [j.correct for j in everyones]
    parts = scores(tasks, correct)
    result = Measure(name, parts.pop("overall"), len(everyones), _interval(tasks, correct), parts=parts)
    if absent := [t for t in TASKS if t not in parts]:
        result.warnings.append(f"no pictures of {', '.join(absent)}: not a full GenEval score")
    if missing:
        result.warnings.append(f"{len(missing)} pictures are unreadable and not counted; first: {missing[0].path}")
    if ranks.first:
        rows = [json.dumps(asdict(j), ensure_ascii=False) + "\n" for j in everyones]
        (out / f"{name}.jsonl").write_text("".join(rows))
        failures = [j for t in TASKS for j in [j for j in everyones if j.task == t and not j.correct][:SHOWN_PER_TASK]]
        if failures:
            tiles = [Tile(Path(j.path), f"{j.prompt}: {j.reason}", good=False) for j in failures]
            save_mosaic(tiles, out / f"{name}_failures.png")
        tell(f"GenEval: every verdict is in {out / f'{name}.jsonl'}")
    if not all(correct):
        result.images = {f"{name}_failures.png": "Where it fails: the first pictures of each task that do, and why"}
    return result


def _interval(tasks: list[str], correct: list[bool]) -> tuple[float, float]:
    """95 % interval of the mean of the tasks."""
    hits = {t: [c for other, c in zip(tasks, correct, strict=True) if other == t] for t in dict.fromkeys(tasks)}
    return share_interval([(sum(h), len(h)) for h in hits.values()])
