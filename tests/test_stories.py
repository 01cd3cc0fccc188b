"""The stories in runs/, each from data to served model, as bash runs them, at tiny size."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.commands import commands
from tests.conftest import TINY
from tests.data.tiny_vlm import tiny_vlm
from tests.encoders.test_pretrained_text import saved
from tests.finetune import tiny
from tests.making import captioned_folder
from tests.program import ROOT, started
from tests.waiting import LONG, wait_until


def words(**changes: object) -> str:
    """`tiny_config` as it is typed, for a recipe that has its own data and text."""
    small = {k: v for k, v in TINY.items() if k.split(".")[0] in ("model", "sample", "optim", "evaluate")}
    return " ".join(f"--{k} {v}" for k, v in (small | {k.replace("__", "."): v for k, v in changes.items()}).items())


def tell(name: str, folder: Path, **variables: str) -> None:
    """Runs a story up to its server, which has to draw a picture."""
    own = {"OMP_NUM_THREADS": "1", "PORT": "0", "OUT": str(folder / "out")}
    with commands() as found:
        own["PATH"] = f"{found}{os.pathsep}{os.environ['PATH']}"
        _tell(["bash", ROOT / "runs" / name], folder, own | variables)


def _tell(words: list[object], folder: Path, variables: dict[str, str]) -> None:
    with started(words, folder, **variables) as story:
        url = story.url(r"serving .* at\s+(http://\S+:\d+)")

        def ready() -> bool:
            story.check()
            with suppress(httpx.TransportError):
                return httpx.get(f"{url}/ready").status_code == 200
            return False

        wait_until(ready, "the server to be ready")
        answer = httpx.post(f"{url}/v1/images/generations", json={"prompt": "a red circle", "steps": 2}, timeout=LONG)
        assert answer.status_code == 200, answer.text
        story.process.send_signal(signal.SIGTERM)
        assert story.process.wait(LONG) == 0, "".join(story.lines)


def test_scenes(tmp_path):
    limit = "--train.steps 6 --train.batch 8 --train.sample_every 1"
    tell("scenes.sh", tmp_path, SETTINGS=words(model__width=64), LIMIT=limit)
    assert (tmp_path / "out" / "mine.png").stat().st_size > 1000
    assert (tmp_path / "out" / "model" / "score.json").is_file()


def test_speedrun(tmp_path):
    pictures = captioned_folder(tmp_path / "pictures", 24)
    text = saved("qwen3", tmp_path / "text")
    tell(
        "speedrun.sh", tmp_path, PICTURES=str(pictures), RECIPE="folder", SIDE="32", GPUS="2",
        CAPTIONER=tiny_vlm(tmp_path / "vlm"), TEXT_ENCODER=text.pretrained,
        LIMIT="--train.steps 4 --train.batch 4 --train.sample_every 1",
        SETTINGS=words(data__resolution=32, text__pretrained=text.pretrained, text__max_tokens=256),
    )  # fmt: skip
    assert (tmp_path / "out" / "model" / "report.html").is_file()


def test_finetune(tmp_path):
    pytest.importorskip("diffusers", reason="pip install 'daybreak[finetune]'")
    base, pictures = tiny.save_sd(tmp_path / "base"), tiny.write_pictures(tmp_path / "pictures")
    settings = "--steps 4 --batch 4 --sample-steps 2 --rank 2 --sample-every 4 --warmup 0 --report-pictures 4"
    tell("finetune.sh", tmp_path, PICTURES=str(pictures), BASE=str(base), LIMIT="", SETTINGS=settings)
    assert all((tmp_path / "out" / name).stat().st_size > 500 for name in ("mine.png", "base.png"))


def test_prefer(demo_run, tmp_path):
    small = "--pictures 2 --batch 2 --draw-steps 2 --held-out 2 --count 50"
    tell("prefer.sh", tmp_path, RUN=str(demo_run), LIMIT="--steps 2", SETTINGS=small)
    assert all((tmp_path / "out" / name).stat().st_size > 500 for name in ("before.png", "after.png"))
    assert (tmp_path / "out" / "preferred" / "report" / "report.json").is_file()


def test_a_story_without_pictures_says_what_it_needs():
    done = subprocess.run(["bash", ROOT / "runs" / "finetune.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "PICTURES=my-pictures runs/finetune.sh" in done.stderr
