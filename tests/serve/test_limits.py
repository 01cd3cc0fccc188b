"""Keys, rates, timeouts, hostile input, and the way down."""

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from starlette.responses import PlainTextResponse

from daybreak.commands.serve import run_serve
from daybreak.config import ConfigError
from daybreak.serve.keys import Client, RateLimiter, add_key, digest, read_keys
from daybreak.serve.middleware import Guard
from daybreak.serve.settings import ServeSettings
from tests.waiting import LONG, wait_until

GENERATIONS = "/v1/images/generations"
JSON = {"content-type": "application/json"}


def test_keys_are_kept_as_hashes(tmp_path):
    file = tmp_path / "keys.txt"
    key = add_key(file, "anna", None)
    other = add_key(file, "bert", 30.0)
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_keys(file) == {digest(key): Client("anna"), digest(other): Client("bert", 30.0)}
    with pytest.raises(ConfigError, match="has a key named anna"):
        add_key(file, "anna", None)
    with pytest.raises(ConfigError, match="'an na'"):
        add_key(file, "an na", None)


@pytest.mark.parametrize(("text", "words"), [("anna", "line 1"), ("a " + "0" * 64 + " -3", "no rate"), ("", "no key")])
def test_a_wrong_key_file_is_named(tmp_path, text, words):
    (tmp_path / "keys.txt").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_keys(tmp_path / "keys.txt")


def test_rates(monkeypatch):
    now = 100.0
    monkeypatch.setattr("daybreak.serve.keys.time.monotonic", lambda: now)
    limiter = RateLimiter(6.0)
    anna = Client("anna")
    assert limiter.wait(anna, 4) == 0
    assert limiter.wait(anna, 4) == pytest.approx(20)  # two are left; two more take 20 s
    assert limiter.wait(Client("bert"), 6) == 0
    assert limiter.wait(Client("carl", rate=60.0), 60) == 0
    now += 20
    assert limiter.wait(anna, 4) == 0
    now += 60
    assert limiter.wait(anna, 12) == 0  # more than a minute's: let through when the bucket is full,
    assert limiter.wait(anna, 1) == pytest.approx(70)  # and paid off afterwards


def test_a_server_with_keys(finished_run, tmp_path, serving):
    file = tmp_path / "keys.txt"
    key, slow = add_key(file, "anna", None), add_key(file, "bert", 0.1)
    with serving(finished_run, "--keys", file, "--timeout", "1s", "--max-steps", 10_000) as server:

        def draw(key: str | None, **fields: object) -> httpx.Response:
            headers = {"authorization": f"Bearer {key}".encode()} if key else {}
            return server.http.post(GENERATIONS, json={"prompt": "x", "steps": 2} | fields, headers=headers)

        for wrong in (None, "", "wrong", key[:-1], digest(key), "🔑"):
            answer = draw(wrong)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        assert server.http.get("/v1/models").status_code == 401
        for path in ("/", "/health", "/ready", "/metrics"):
            assert server.http.get(path).status_code == 200
        assert draw(key).status_code == 200
        assert draw(slow).status_code == 200
        limited = draw(slow)
        assert limited.status_code == 429
        assert 1 <= int(limited.headers["retry-after"]) <= 601
        assert draw(key).status_code == 200  # the other key is not touched
        with concurrent.futures.ThreadPoolExecutor() as both:
            late = both.submit(draw, key, steps=10_000, n=8)
            stream = both.submit(draw, key, steps=10_000, n=8, stream=True)
        assert late.result().status_code == 504
        assert "event: error" in stream.result().text
        assert '"code": "timeout"' in stream.result().text
        assert draw(key).status_code == 200


HOSTILE = [
    ({"size": "999999x999999"}, 400, "size"),
    ({"size": "64x64; rm"}, 400, "size"),
    ({"size": "0x0"}, 400, "size"),
    ({"steps": 10**9}, 400, "steps"),
    ({"steps": 5001}, 400, "steps"),
    ({"steps": 0}, 400, "steps"),
    ({"steps": 2.5}, 400, "steps"),
    ({"steps": True}, 400, "steps"),
    ({"guidance": 1e9}, 400, "guidance"),
    ({"guidance": -1}, 400, "guidance"),
    ({"n": 11}, 400, "n"),
    ({"n": -1}, 400, "n"),
    ({"seed": -1}, 400, "seed"),
    ({"seed": 2**70}, 400, "seed"),
    ({"prompt": ""}, 400, "prompt"),
    ({"prompt": "x" * 4001}, 400, "prompt"),
    ({"prompt": ["x"]}, 400, "prompt"),
    ({"prompt": None}, 400, "prompt"),
    ({"model": "../../etc/passwd"}, 404, "model"),
    ({"response_format": "file:///etc"}, 400, "response_format"),
    ({"unknown": 1}, 400, "unknown"),
]


@pytest.mark.parametrize(("fields", "status", "param"), HOSTILE, ids=lambda x: str(x)[:30])
def test_wrong_fields_are_named(server, fields, status, param):
    answer = server.draw(**fields)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"prompt": "x", "guidance": NaN}', 400),
        (b'{"prompt": "x", "guidance": Infinity}', 400),
        (b'{"prompt": "\\ud800"}', 400),
        (b'{"prompt": "\xff\xfe"}', 400),
        (b"", 400),
        (b"null", 400),
        (b"[[[[", 400),
        (b"[" * 100_000, 400),
        (b'{"prompt": "' + b"x" * 1_000_000 + b'"}', 413),
    ],
    ids=["nan", "infinity", "surrogate", "no utf-8", "empty", "null", "broken", "deep", "1 MB"],
)
def test_wrong_bodies(server, body, status):
    answer = server.http.post(GENERATIONS, content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_a_long_body_without_a_length_is_cut_off(server):
    def endless():
        for _ in range(1000):
            yield b"x" * 10_000

    with contextlib.suppress(httpx.TransportError):  # the server may hang up while the client is still sending
        assert server.http.post(GENERATIONS, content=endless(), headers=JSON).status_code == 413
    assert server.draw("still alive", steps=1).status_code == 200


def test_strange_but_fair_prompts_are_drawn(server):
    for prompt in ("\x00", "🦊" * 1000, "<script>alert(1)</script>", "a" * 4000, "\u202e\u0000\n\t"):
        assert server.draw(prompt, steps=1).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/v1/images/..%2f..%2fetc%2fpasswd",
        "/v1/images/%00.png",
        "/v1/images/" + "0" * 32 + ".png",
        "/nowhere",
    ],
)
def test_paths_lead_nowhere(server, path):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=LONG) as raw:  # a client library would tidy the path up
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b" 404 " in answer.split(b"\r\n")[0]
    assert b"daybreak.serve" not in answer
    assert b"root:" not in answer


def test_a_page_elsewhere_cannot_use_a_loopback_server(server):
    assert server.http.get("/v1/models", headers={"host": "evil.example"}).status_code == 400
    simple = server.http.post(GENERATIONS, content=b'{"prompt":"x"}', headers={"content-type": "text/plain"})
    assert simple.status_code == 400  # what a browser would send elsewhere without asking


def test_broken_and_idle_connections_do_no_harm(server):
    host, port = server.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(50)]
    for i, raw in enumerate(idle):
        raw.sendall([b"POST ", b"\x00\xff" * 50, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"][i % 3])
    assert server.draw("still alive", steps=1).status_code == 200
    for raw in idle:
        raw.close()
    assert server.draw("still alive", steps=1).status_code == 200


def test_overload_is_refused_and_nothing_is_lost(server):
    def draw(seed: int) -> httpx.Response:
        return httpx.post(
            server.url + GENERATIONS, json={"prompt": f"x{seed}", "seed": seed, "steps": 40, "n": 4}, timeout=LONG
        )

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(draw, range(40)))
    statuses = [a.status_code for a in answers]
    assert set(statuses) == {200, 429}
    assert all(1 <= int(a.headers["retry-after"]) <= 600 for a in answers if a.status_code == 429)
    drawn = [a for a in answers if a.status_code == 200]
    assert all(len(a.json()["data"]) == 4 for a in drawn)
    assert server.metric('daybreak_queue_length{model="run"}') == 0


def test_sigterm_loses_no_accepted_request(finished_run, serving):
    with (
        serving(finished_run, "--batch", 1, "--max-steps", 1000, "--timeout", "15min") as server,
        concurrent.futures.ThreadPoolExecutor(12) as pool,
    ):

        def draw(steps: int) -> int:
            return server.draw("x", steps=steps).status_code

        def wait_for(metric: str, least: int) -> None:
            wait_until(lambda: server.metric(f'{metric}{{model="run"}}') >= least, "the requests to arrive")

        waiting = [pool.submit(draw, 1000)]
        wait_for("daybreak_step_seconds_count", 1)  # it keeps the others in line
        waiting += [pool.submit(draw, 10) for _ in range(11)]
        wait_for("daybreak_queue_length", 11)  # all twelve were accepted
        assert server.terminate() == 0
        assert [w.result() for w in waiting] == [200] * 12
        with pytest.raises(httpx.TransportError):
            server.http.get("/health")
    assert "Traceback" not in "".join(server.lines)


def test_mistakes_of_the_operator_get_one_line(finished_run, tmp_path):
    def fails(words: str, models: list[str], settings: ServeSettings | None = None, host: str = "127.0.0.1") -> None:
        with pytest.raises(ConfigError, match=words):
            run_serve(Console(), models, host, 0, settings or ServeSettings(), anonymous=False)

    fails("no such folder", [str(tmp_path / "nowhere")])
    fails("is no model", [str(tmp_path)])
    fails("two models are named", [str(finished_run), str(finished_run)])
    fails("lets others in", [str(finished_run)], host="0.0.0.0")
    fails("cannot be read", [str(finished_run)], ServeSettings(keys=tmp_path / "none.txt"))
    fails("cannot be taken", [str(finished_run)], host="192.0.2.1", settings=ServeSettings(keys=tmp_path / "k"))
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    fails("diffusers cannot load it", [str(tmp_path)])


def test_the_key_command_prints_the_key_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "daybreak", "key", "anna"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    key = next(line for line in done.stdout.splitlines() if line.startswith("db-"))
    assert digest(key) in (Path(tmp_path) / "keys.txt").read_text()


def test_slow_bodies_and_too_many_pictures_at_once_are_turned_away(monkeypatch):
    monkeypatch.setattr("daybreak.serve.middleware.CLIENT_SECONDS", 0.2)

    async def app(_scope, _receive, send):
        await PlainTextResponse("drawn")(_scope, _receive, send)

    guard = Guard(app)

    async def ask(path: str, *pieces: bytes | None) -> int:
        """The status for a body that comes in pieces; None: it never comes."""
        left, statuses = list(pieces), []

        async def receive() -> dict[str, object]:
            piece = left.pop(0)
            while piece is None:
                await asyncio.sleep(0.01)
            return {"type": "http.request", "body": piece, "more_body": bool(left)}

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await guard({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)
        return statuses[0]

    async def scenario() -> None:
        edits = "/v1/images/edits"
        assert await ask(edits, b"a", b"b") == 200
        many = [asyncio.ensure_future(ask(edits, b"a", None)) for _ in range(8)]  # each may be of 32 MiB
        await asyncio.sleep(0.05)
        assert await ask(edits, b"a") == 503
        assert await ask(GENERATIONS, b"{}") == 200  # which brings none, and is answered
        assert await asyncio.gather(*many) == [408] * 8
        assert await ask(edits, b"a") == 200

    asyncio.run(scenario())
