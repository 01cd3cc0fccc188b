"""A fine-tuning run beside TensorBoard in MLflow: its curves, its advice and the figures of its report."""

import json
import sys

import pytest
import tiny

from daybreak.config import ConfigError
from daybreak.finetune.settings import FinetuneSettings
from daybreak.train.trackers import FILE


def test_a_missing_package_is_named_before_the_base_is_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match="^--tracker mlflow needs the package mlflow, which is not installed: pip"):
        tiny.finetune(tmp_path / "no-base", tmp_path / "no-pictures", tmp_path / "run", trackers=("mlflow",))
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        ConfigError, match="^--tracker is 'wand'; it must be one of wandb, mlflow; did you mean wandb[?]$"
    ):
        FinetuneSettings(base="base", data="pictures", trackers=("wand",))


def test_mlflow_has_the_curves_the_advice_and_the_report(base, pictures, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'daybreak[mlflow]'")
    pytest.importorskip("sqlalchemy", reason="MLflow keeps runs on this machine by it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    settings = {"trackers": ("mlflow",), "steps": 4, "sample_every": 2, "report": True, "report_pictures": 2, "lr": 0.1}
    run = tiny.finetune(base, pictures, tmp_path / "run", **settings)
    client = mlflow.MlflowClient()
    found = client.get_run(json.loads((run.folder / FILE).read_text())["mlflow"]["run"])
    assert found.info.status == "FINISHED" and found.data.params["method"] == "full"
    assert {"loss/total", "probe/general", "learning_rate/denoiser", "score/general_loss_change"} <= {
        *found.data.metrics
    }
    assert [m.step for m in client.get_metric_history(found.info.run_id, "epochs")] == [1, 2, 3, 4]
    told = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    advice = {e["alarm"] for e in told if e["event"] == "advice"}
    files = {f.path for f in client.list_artifacts(found.info.run_id, "advice")}
    assert advice and advice == {path.removeprefix("advice/").split("-step-")[0] for path in files}
