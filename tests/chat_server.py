"""A small real HTTP server that speaks OpenAI's chat API, and what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer(ThreadingHTTPServer):
    """`answers`: (status, body) by path; a body that is callable is given the request's JSON. `asked`: what came in."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.asked: list[tuple[str, dict[str, Any] | None, str | None]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            "/v1/models": (200, {"data": [{"id": "first"}, {"id": "second"}]}),
            "/v1/chat/completions": (200, self.written),
        }

    @staticmethod
    def written(body: dict[str, Any]) -> dict[str, Any]:
        """The prompt, longer."""
        prompt = body["messages"][0]["content"].rpartition("Prompt: ")[2]
        return {"choices": [{"message": {"role": "assistant", "content": f"{prompt},\n in  detail"}}]}


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's `answers` say."""

    server: ChatServer

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any] | None) -> None:
        self.server.asked.append((self.path, body, self.headers["Authorization"]))
        status, answer = self.server.answers.get(self.path, (404, {}))
        answer = answer(body) if callable(answer) else answer
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the test tells what went wrong."""


@contextmanager
def chatting() -> Iterator[ChatServer]:
    """A running server."""
    server = ChatServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
