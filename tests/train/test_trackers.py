"""Weights & Biases and MLflow: real runs of theirs, offline, with what TensorBoard shows, through a resume."""

import importlib.util
import io
import json
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daybreak.config import ConfigError, load, override
from daybreak.train.boards import TensorBoard
from daybreak.train.loop import log_score, train
from daybreak.train.trackers import FILE
from tests.conftest import tiny_config
from tests.train.test_run import Recorder, stop_after
from tests.waiting import wait_until

SETTINGS = {"train__steps": 6, "train__sample_every": 0.5, "train__watch_every": 2, "sample__steps": 2}
SCORES = {"overall": 0.25, "held_out": 0.5}


def needs(*modules: str):
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def stopped_resumed_and_scored(run: Path, tracker: str) -> None:
    config = tiny_config(**SETTINGS, train__trackers=tracker)
    stop_after(run, config, steps=2)
    state = train(config, run, [], resume=True)
    log_score(config, run, state.step, SCORES, print)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_made(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as Python itself remembers what cannot be imported
    with pytest.raises(ConfigError) as error:
        train(tiny_config(train__trackers=name), tmp_path / "run", [])
    assert str(error.value).splitlines() == [
        f"train.trackers={name} needs the package {name}, which is not installed: pip install 'daybreak[{name}]'"
    ]
    assert not (tmp_path / "run").exists()


def test_trackers_as_they_are_typed():
    config = tiny_config()
    assert config.train.trackers == ()
    assert override(config, "train.trackers", "wandb,mlflow").train.trackers == ("wandb", "mlflow")
    assert override(config, "train.trackers", ["mlflow"]).train.trackers == ("mlflow",)
    assert override(config, "train.trackers", "none").train.trackers == ()
    with pytest.raises(ConfigError, match="must be one of wandb, mlflow; did you mean wandb"):
        override(config, "train.trackers", "wand")


def test_the_score_joins_the_log_and_tensorboard(finished_run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    Image.new("RGB", (40, 20)).save(run / "grid.png")
    log_score(load(run / "config.yaml"), run, 20, SCORES, print)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last == {"event": "score", "step": 20, "values": SCORES}
    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [(e.step, e.value) for e in board.Scalars("score/overall")] == [(20, 0.25)]
    assert board.Images("grid")[0].width == 40
    assert [e.step for e in board.Scalars("loss/total")] == list(range(1, 21))  # none is hidden by what came later
    text = board.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "width: 32" in text and "trackers: []" in text


def test_a_large_picture_is_smaller_in_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    gradient = np.linspace(0, 255, 600)[None, :, None] * np.ones((500, 1, 3))
    pixels = (gradient + np.random.default_rng(0).normal(0, 8, gradient.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    board = TensorBoard(tmp_path, None)
    board.picture("large", tmp_path / "large.png", 1)
    board.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload().Images("large")[0]
    assert len(shown.encoded_image_string) < (tmp_path / "large.png").stat().st_size / 2
    assert (shown.width, shown.height) == (600, 500)
    again = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)))
    assert np.abs(again.astype(float) - gradient).mean() < 8


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An empty store of MLflow's: its tables take a while to make."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def in_store(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")


@needs("mlflow", "sqlalchemy")
@pytest.mark.usefixtures("in_store")
def test_mlflow_has_what_tensorboard_has_in_one_run(tmp_path, monkeypatch):
    import mlflow
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    stopped_resumed_and_scored(run, "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("daybreak")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == json.loads((run / FILE).read_text())["mlflow"]["run"]
    assert found.info.run_name == "run" and found.info.status == "FINISHED"
    assert found.data.params["train.batch"] == "8" and found.data.params["model.width"] == "32"
    history = client.get_metric_history(found.info.run_id, "loss/total")
    assert sorted(m.step for m in history) == [1, 2, 3, 4, 5, 6]
    assert found.data.metrics["score/overall"] == 0.25
    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert set(board.Tags()["scalars"]) == set(found.data.metrics)
    pictures = {re.split("[+%]", Path(f.path).name)[0] for f in client.list_artifacts(found.info.run_id, "images")}
    assert {name.replace("/", "~") for name in board.Tags()["images"]} == pictures
    assert "samples" in pictures
    assert "config.yaml" in {f.path for f in client.list_artifacts(found.info.run_id)}
    # Where MLflow is now told to look elsewhere, there is no such run: one line, and nothing begun.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(ConfigError, match=f"has no run {found.info.run_id} to go on with"):
        train(tiny_config(**SETTINGS, train__trackers="mlflow"), run, [], resume=True)


@needs("mlflow", "sqlalchemy")
@pytest.mark.usefixtures("in_store")
def test_a_tracker_that_fails_is_told_and_training_goes_on(tmp_path, store):
    class Breaker(Recorder):
        def on_step(self, record):
            super().on_step(record)
            if record.step == 3:
                (store / "mlflow.db").write_bytes(b"no database")

    watcher = Breaker()
    train(tiny_config(**SETTINGS, train__trackers="mlflow"), tmp_path / "run", [watcher])
    assert watcher.steps[-1].step == 6
    assert [n for n in watcher.notes if n.startswith("MLflow cannot be written: ")]
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3, 4, 5, 6]


@needs("wandb")
def test_weights_and_biases_has_what_tensorboard_has_in_one_run(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    stopped_resumed_and_scored(run, "wandb")
    number = json.loads((run / FILE).read_text())["wandb"]["id"]
    files = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 3 and {f.name for f in files} == {f"run-{number}.wandb"}  # begun, resumed, scored
    wait_until(lambda: "score/overall" in read_offline(files)[0])  # its own process writes, and may be behind
    values, configs = read_offline(files)
    assert values["step"] >= {1, 2, 3, 4, 5, 6}
    assert values["score/overall"] == {0.25}
    assert "train" in configs
    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    tags = {*board.Tags()["scalars"], *board.Tags()["images"]}
    assert tags == {k for k in values if k != "step" and not k.startswith("_")}


def read_offline(files: list[Path]) -> tuple[dict[str, set], set[str]]:
    """Every value that was logged under each name, and the names of the config's sections."""
    from wandb.proto import wandb_internal_pb2

    values: dict[str, set] = {}
    configs = set()
    for file in files:
        for data in leveldb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            configs |= {u.key for u in record.config.update}
            for item in record.history.item:
                name = item.key or item.nested_key[0]  # a picture is several: its width, its file ...
                value = json.loads(item.value_json)
                values.setdefault(name, set()).add(value if isinstance(value, int | float) else "a picture")
    return values, configs


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """LevelDB's log format, in which W&B keeps an offline run: blocks of 32 KiB, of chunks (checksum, length, kind)."""
    block, start, record = 32768, 7, b""  # 7: W&B's own head
    while start + 7 <= len(data):
        if block - start % block < 7:
            start += block - start % block
            continue
        length, kind = struct.unpack("<HB", data[start + 4 : start + 7])
        record += data[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""
