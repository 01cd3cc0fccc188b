"""Real runs of a tiny model: they learn, stop, save, and resume to the bit."""

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from daybreak.cli import app
from daybreak.config import ConfigError, override
from daybreak.encoders.text import TextEncoder
from daybreak.formats.run import load_averaged
from daybreak.parallel import Ranks, pick_device
from daybreak.train import checkpoint, tensors
from daybreak.train.clock import Clock
from daybreak.train.find_lr import find_learning_rate, write_curve
from daybreak.train.guard import TrainingError
from daybreak.train.loop import train
from daybreak.train.pixel import Pixel, open_stage_source
from daybreak.train.watch import AlarmRecord, MetricsRecord, SampleRecord, StepRecord
from tests.conftest import tiny_config, tiny_demo


class Recorder:
    """Remembers what a run told."""

    def __init__(self):
        self.steps: list[StepRecord] = []
        self.samples: list[SampleRecord] = []
        self.notes: list[str] = []
        self.metrics: list[MetricsRecord] = []
        self.alarms: list[AlarmRecord] = []

    def on_alarm(self, record):
        self.alarms.append(record)

    def on_metrics(self, record):
        self.metrics.append(record)

    def on_step(self, record):
        self.steps.append(record)

    def on_samples(self, record):
        self.samples.append(record)

    def on_note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run of tiny_config(), not to be changed."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train(tiny_config(), run, [])
    return run


def losses(run: Path) -> list[float]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [e["loss"] for e in events if e["event"] == "step"]


def test_the_loss_falls(tmp_path):
    config = tiny_config(train__steps=40, train__batch=16, optim__warmup_steps=3)
    train(config, tmp_path / "run", [])
    curve = losses(tmp_path / "run")
    assert len(curve) == 40
    assert sum(curve[-10:]) < 0.5 * sum(curve[:10])


@pytest.mark.parametrize("kind, muon_every", [(tiny_config, 1), (tiny_demo, 2)])
def test_the_same_run_twice_and_a_resumed_one_have_identical_losses_and_weights(tmp_path, kind, muon_every):
    whole = kind(train__steps=8, optim__muon_every=muon_every)
    a = train(whole, tmp_path / "a", [])
    train(whole, tmp_path / "b", [])
    assert losses(tmp_path / "a") == losses(tmp_path / "b")

    stop_after(tmp_path / "c", whole, steps=3)
    assert len(losses(tmp_path / "c")) == 3
    c = train(whole, tmp_path / "c", [], resume=True)
    assert losses(tmp_path / "c") == losses(tmp_path / "a")
    for mine, other in ((a.transformer, c.transformer), (a.text_encoder, c.text_encoder), (a.average, c.average)):
        for x, y in zip(mine.parameters(), other.parameters(), strict=True):
            assert torch.equal(x, y)
            assert x.stride() == y.stride()  # kernels lie as before, or the next step rounds otherwise
    kept, again = tensors.flat(a), tensors.flat(c)
    assert kept.keys() == again.keys() and any(name.startswith("optimizer.") for name in kept)
    assert not [name for name, x in kept.items() if not torch.equal(x, again[name])]


def test_the_demos_parts_are_trained_and_told(tmp_path):
    recorder = Recorder()
    config = tiny_demo(train__steps=30, train__batch=16, optim__warmup_steps=3, train__microbatch=8)
    state = train(config, tmp_path / "run", [recorder])
    assert recorder.steps[0].terms.keys() == {"velocity", "grounding"}
    assert recorder.steps[0].terms["grounding"] == pytest.approx(math.log(2), abs=0.3)
    ground = [r.terms["grounding"] for r in recorder.steps]
    assert sum(ground[-5:]) < 0.8 * sum(ground[:5])
    kernels = [m.weight for m in state.transformer.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(k.is_contiguous(memory_format=torch.channels_last) for k in kernels)
    transformer, _ = load_averaged(tmp_path / "run", config, pick_device())
    for x, y in zip(state.average.parameters(), transformer.parameters(), strict=True):
        assert torch.equal(x, y) and x.stride() == y.stride()


def stop_after(run: Path, config, steps: int) -> list[str]:
    """Runs until `steps` steps are done, then sends what Ctrl-C sends."""

    class Stopper(Recorder):
        def on_step(self, record):
            super().on_step(record)
            if record.step == steps:
                os.kill(os.getpid(), signal.SIGINT)

    watcher = Stopper()
    train(config, run, [watcher])
    return watcher.notes


def test_an_interrupted_run_saves_and_says_how_to_continue(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    notes = stop_after(tmp_path / "run", tiny_config(train__steps=50), steps=2)
    assert any("stopped at step 2" in n and "--resume" in n for n in notes)
    assert [p.name for p in checkpoint.complete(tmp_path / "run")] == ["step-00000002"]
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_run_leaves(tmp_path):
    recorder = Recorder()
    train(tiny_config(train__steps=8, train__sample_every=0.5), tmp_path / "run", [recorder])
    run = tmp_path / "run"
    assert [r.step for r in recorder.steps] == list(range(1, 9))
    assert recorder.steps[-1].progress == 1
    assert recorder.steps[-1].images == 64
    assert [s.step for s in recorder.samples] == [4, 8]
    assert all(0 <= s.followed <= 1 and Path(s.path).is_file() for s in recorder.samples)
    assert list((run / "tensorboard").iterdir())
    (folder,) = checkpoint.complete(run)
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "transformer.safetensors",
        "text_encoder",
        "tokenizer",
        "training",
        "state.json",
        "config.yaml",
        "manifest.json",
    }


def test_averaged_weights_are_what_sampling_loads(tmp_path):
    config = tiny_config()
    state = train(config, tmp_path / "run", [])
    transformer, text = load_averaged(tmp_path / "run", config, pick_device())
    for mine, loaded in ((state.average, transformer), (state.average_text, text)):
        for x, y in zip(mine.parameters(), loaded.parameters(), strict=True):
            assert torch.equal(x, y)
    assert text.tokens(["a red circle"])[0].tolist() == state.text_encoder.tokens(["a red circle"])[0].tolist()
    again = TextEncoder.load(checkpoint.newest(tmp_path / "run"))
    assert again.max_tokens == config.text.max_tokens


def test_a_run_folder_in_use_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        train(tiny_config(), tmp_path / "run", [])
    assert (tmp_path / "run" / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    [
        "transformer.safetensors",
        "training/shard-00001-model-00001-of-00001.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "state.json",
        "manifest.json",
    ],
)
def test_a_damaged_checkpoint_is_named(tmp_path, finished, name):
    shutil.copytree(finished, tmp_path / "run")
    path = checkpoint.newest(tmp_path / "run") / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConfigError, match="damaged"):
        checkpoint.resume(tmp_path / "run", tiny_config(), torch.device("cpu"))


def test_a_checkpoint_of_other_dimensions_is_refused(finished):
    with pytest.raises(ConfigError, match="does not fit the config"):
        checkpoint.resume(finished, tiny_config(model__depth=3), torch.device("cpu"))


def test_only_the_newest_checkpoints_stay(tmp_path):
    train(tiny_config(train__steps=6, train__save_minutes=1e-9), tmp_path / "run", [])
    assert [p.name for p in checkpoint.complete(tmp_path / "run")] == ["step-00000005", "step-00000006"]


def test_an_infinite_loss_ends_the_run_with_a_reason_and_spares_the_weights(tmp_path):
    config = tiny_config(train__steps=40, optim__warmup_steps=0, diffusion__noise_scale=3e38)
    recorder = Recorder()
    with pytest.raises(TrainingError, match="without a finite gradient"):
        train(config, tmp_path / "run", [recorder])
    assert any("not applied" in n for n in recorder.notes)


def test_a_time_budget_ends_the_run_and_spends_its_learning_rate(tmp_path):
    config = override(tiny_config(train__minutes=0.05, optim__warmup_steps=0), "train.steps", "none")
    recorder = Recorder()
    train(config, tmp_path / "run", [recorder])
    last = recorder.steps[-1]
    assert 3.0 <= last.seconds < 4.5
    assert last.progress == 1
    factors = [r.lr_factor for r in recorder.steps]
    assert factors[0] == 1
    assert factors[-1] < 0.2
    assert factors == sorted(factors, reverse=True)


def test_the_clock_counts_training_only():
    clock = Clock(tiny_config(train__minutes=1.0, train__steps=1000).train, seconds=30.0)
    assert clock.progress(0) == pytest.approx(0.5)
    clock.run()
    time.sleep(0.05)
    clock.pause()
    used = clock.seconds
    time.sleep(0.05)
    assert clock.seconds == used > 30.04
    assert clock.progress(900) == pytest.approx(0.9)
    assert math.isclose(clock.seconds_left(900), used / 9, rel_tol=1e-3)


def test_the_recipes_metrics_are_measured_while_it_trains(tmp_path):
    config = tiny_config(
        train__steps=4, train__sample_every=1.0, evaluate__metrics="scenes", evaluate__metrics_every=16,
        evaluate__metrics_count=4,
    )  # fmt: skip
    recorder = Recorder()
    train(config, tmp_path / "run", [recorder])
    assert [m.images for m in recorder.metrics] == [16, 32]
    assert all(0 <= m.values["scenes"] <= 1 for m in recorder.metrics)
    stored = json.loads((tmp_path / "run" / "metrics" / "000000000032" / "score.json").read_text())
    assert stored["overall"] == recorder.metrics[-1].values["scenes"]
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "metrics"] == [2, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": "fidd"}, "--evaluate.metrics is 'fidd'; .* did you mean fid[?]"),
        ({"metrics": "fid", "metrics_count": 4}, "FID over 4 pictures drawn says nothing"),
        ({"metrics": "kid", "reference": "nowhere"}, "--evaluate.reference nowhere: no such folder"),
        ({"metrics": "kid", "weights": "incep=x"}, "--evaluate.weights incep=x: it should be NAME=FILE_OR_FOLDER"),
        ({"metrics": "vqa"}, "needs --questions"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_run_folder_is_made(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(tiny_config(**{f"evaluate__{k}": v for k, v in settings.items()}), tmp_path / "run", [])
    assert not (tmp_path / "run").exists()


def test_where_memory_is_full_fewer_pictures_go_at_once_and_the_result_is_the_same(tmp_path, monkeypatch):
    config = tiny_config(train__steps=3)
    expected = train(config, tmp_path / "expected", [])
    real, recorder = Pixel.loss, Recorder()

    def loss(self, batch, *others):
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("full")
        return real(self, batch, *others)

    monkeypatch.setattr(Pixel, "loss", loss)
    found = train(config, tmp_path / "run", [recorder])
    told = [n for n in recorder.notes if "memory is full" in n]
    assert len(told) == 2 and "2 pictures at once from here on" in told[-1]
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "expected"), rel=1e-4)
    assert all(torch.allclose(a, b, atol=5e-3) for a, b in zip(found.parameters(), expected.parameters(), strict=True))


def test_the_learning_rate_finder_suggests_a_rate_that_learns(tmp_path):
    config = tiny_config(train__steps=3, optim__warmup_steps=0)
    pixel = Pixel.create(config, open_stage_source(config, 0, 0), torch.device("cpu"))
    factor, curve = find_learning_rate(pixel, Ranks(), lambda _: None)
    assert 1e-3 < factor < 30 and len(curve) > 10
    assert min(loss for _, loss in curve) < curve[0][1]
    path = write_curve(curve, factor, tmp_path)
    assert path.is_file() and json.loads((tmp_path / "lr.json").read_text())["suggestion"] == factor


def test_the_finder_and_changed_data_as_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i, 0, 0)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"picture {i}")
    words = ["--data", "pictures", "--data.resolution=32", *[f"--{k}={v}" for k, v in ON_PICTURES.items()]]
    found = CliRunner().invoke(app, ["train", "folder", "--out", "rate", "--find-lr", *words])
    assert found.exit_code == 0 and "--optim.adam_lr" in found.output and Path("rate/lr.png").is_file()
    assert CliRunner().invoke(app, ["train", "folder", "--out", "run", *words]).exit_code == 0
    (folder / "0.txt").write_text("another caption")
    again = ["train", "--resume", "run", "--train.steps=3"]
    refused = CliRunner().invoke(app, again)
    assert isinstance(refused.exception, ConfigError)
    assert "1 with other captions): put them back, or go on with what is there now by --data-changed" in str(
        refused.exception
    )
    assert CliRunner().invoke(app, [*again, "--data-changed"]).exit_code == 0


ON_PICTURES = {
    "train.minutes": "none", "train.steps": 2, "train.batch": 4, "model.patch": 4, "model.width": 32, "model.heads": 2,
    "model.depth": 2, "text.width": 32, "text.heads": 2, "text.depth": 1, "sample.steps": 1, "train.sample_every": 1.0,
}  # fmt: skip
