"""A line of JSON for each request: when, who, what, how it went, how long it took."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daybreak.config import ConfigError
from daybreak.serve.keys import Client


class AccessLog:
    """ASGI middleware that adds to `file`. Routes put what they know into the request's state, as `note` does.

    ConfigError where the file can't be written.
    """

    def __init__(self, app: ASGIApp, file: Path) -> None:
        self._app = app
        try:
            self._file = file.open("a", encoding="utf-8", buffering=1)
        except OSError as e:
            raise ConfigError(f"--access-log {file} can't be written: {e.strerror}") from None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, size = time.monotonic(), 0, 0
        state: dict[str, Any] = scope.setdefault("state", {})

        async def watched(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "address": scope["client"][0] if scope.get("client") else None,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(time.monotonic() - began, 4),
                "bytes": size,
            }
            self._file.write(json.dumps(line | state.get("noted", {})) + "\n")


def note(state: Any, client: Client, facts: dict[str, Any]) -> None:
    """Adds who asked and `facts` to the line of a request with this state."""
    state.noted = {"client": client.name} | facts
