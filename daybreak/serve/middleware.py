"""What stands in front of every route: the size of a body, the patience with a slow client, headers for browsers."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daybreak.serve.errors import ApiError
from daybreak.serve.settings import CLIENT_SECONDS, MAX_BODY_BYTES, MAX_UPLOAD_BYTES, MAX_UPLOADS_BYTES

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'"),
]


UPLOADS = ("/v1/images/edits", "/v1/images/variations")
"""Routes whose bodies bring pictures."""


class Guard:
    """ASGI middleware. Bodies over their limit get 413, those that take over CLIENT_SECONDS 408.

    Bodies that bring pictures may be larger, up to MAX_UPLOADS_BYTES of all that are held at once; beyond that 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            async with asyncio.timeout(CLIENT_SECONDS):  # a client that takes nothing holds no picture in memory
                await send(message)

        most = MAX_UPLOAD_BYTES if scope["path"] in UPLOADS else MAX_BODY_BYTES
        reserved = most if scope["path"] in UPLOADS else 0
        try:
            if self._held + reserved > MAX_UPLOADS_BYTES:
                raise ApiError(503, "too many pictures are being sent at once", retry_after=5)
            self._held += reserved
            try:
                body = await self._body(scope, receive, most)
            finally:
                self._held -= reserved
        except ApiError as error:
            await error.response()(scope, receive, guarded_send)
            return
        if body is None:  # the client left
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        self._held += len(body)
        try:
            await self._app(scope, replay, guarded_send)
        except TimeoutError:
            if not started:
                raise
        finally:
            self._held -= len(body)

    async def _body(self, scope: Scope, receive: Receive, most: int) -> bytes | None:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        too_long = ApiError(413, f"the body is longer than {most} bytes")
        if length.isdigit() and int(length) > most:
            raise too_long
        parts, size = [], 0
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_long
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise ApiError(408, f"the body took longer than {CLIENT_SECONDS:g} seconds") from None
