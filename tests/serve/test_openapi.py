"""What /openapi.json promises holds: schemathesis throws what it can think of at a running server."""

import os
import subprocess
import sys

import pytest

from tests.waiting import LONG


def test_schemathesis_finds_nothing(server, tmp_path):
    pytest.importorskip("schemathesis", reason="pip install 'daybreak[dev]'")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--max-examples", "25",
        "--phases", "examples,coverage,fuzzing", "--seed", "1", "--request-timeout", "900", "--no-color",
        "--generation-deterministic",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]  # fmt: skip
    done = subprocess.run(command, env=os.environ, cwd=tmp_path, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "Tested: 10" in done.stdout  # every operation
    assert server.draw("still alive", steps=1).status_code == 200
