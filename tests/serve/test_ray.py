"""The Ray Serve application on a local cluster."""

import base64
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from daybreak.config import ConfigError
from daybreak.config.fields import from_words
from daybreak.serve.ray_app import RaySettings
from daybreak.serve.settings import ServeSettings
from tests.waiting import LONG, wait_until

RUN = """
import sys
import ray
from ray import serve
from daybreak.serve.ray_app import build
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
serve.run(build({"models": sys.argv[1], "cpus": "0.2"}))
print("running", flush=True)
input()
serve.shutdown()
"""


def test_wrong_arguments_are_named():
    def build(arguments):
        from_words(RaySettings, arguments)

    with pytest.raises(ConfigError, match="models=FOLDER is needed"):
        build({"batch": "3"})
    with pytest.raises(ConfigError, match="bach is unknown; .*did you mean batch"):
        build({"models": "x", "bach": "3"})
    with pytest.raises(ConfigError, match="replicas is 'many'; .* such as 1-8"):
        build({"models": "x", "replicas": "many"})
    with pytest.raises(ConfigError, match="timeout is '120'; it must be a time with its unit"):
        build({"models": "x", "timeout": "120"})
    with pytest.raises(ConfigError, match="batch is 0; it must be between 1 and 256"):
        build({"models": "x", "batch": "0"})
    asked = from_words(RaySettings, {"models": "a,b", "replicas": "1-8", "timeout": "2min", "gpus": "0.5"})
    assert (asked.models, asked.replicas, asked.timeout, asked.gpus) == (("a", "b"), (1, 8), 120.0, 0.5)
    assert asked.queue == ServeSettings().queue


def test_a_replica_draws_what_the_server_draws(server, finished_run, tmp_path):
    pytest.importorskip("ray", reason="pip install 'daybreak[ray]'")
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(finished_run), "18231"], cwd=tmp_path, start_new_session=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        lines = []
        while "running" not in (lines or [""])[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)[-3000:]
        url = "http://127.0.0.1:18231"
        wait_until(lambda: httpx.get(f"{url}/ready", timeout=LONG).status_code == 200, "the server to be ready")
        answer = httpx.post(f"{url}/v1/images/generations", json={"prompt": "a circle", "seed": 3}, timeout=LONG)
        assert answer.status_code == 200, answer.text
        a, b = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(r.json()["data"][0]["b64_json"])))).astype(int)
            for r in (answer, server.draw("a circle", seed=3))
        )
        assert np.abs(a - b).max() <= 1
    finally:
        try:
            process.communicate("\n", timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
