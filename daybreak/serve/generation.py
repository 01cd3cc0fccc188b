"""One request for pictures: checked, put in line, and answered at once or as a stream of events."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from daybreak.serve.errors import ApiError
from daybreak.serve.images import parameters_of, picture_file
from daybreak.serve.jobs import Done, Event, Failed, Job, Order, Pixels, Preview, preview_steps
from daybreak.serve.keys import Client
from daybreak.serve.line import Line
from daybreak.serve.orders import orders_of
from daybreak.serve.queue import QueueFullError
from daybreak.serve.schemas import Format, GenerationRequest, GenerationResponse, Picture, Usage
from daybreak.serve.server import ImageServer
from daybreak.serve.uploads import Upload

HEARTBEAT_SECONDS = 1.0
"""A waiting stream says so this often, and where in line it is, lest someone on the way takes it for dead."""


class Generation:
    """A request in flight. `close` it in any case: what is not finished by then is given up."""

    def __init__(
        self, server: ImageServer, line: Line, request: GenerationRequest, client: Client, orders: list[Order]
    ) -> None:
        self.client = client
        self._server, self._line, self._info, self._request = server, line, line.info, request
        self._format: Format = request.output_format or "png"
        self._by_url = (request.response_format or server.settings.response_format) == "url"
        self._kind = "image_generation" if orders[0].start is None else "image_edit"
        self.headers = _headers(request, orders[0])
        self._outcome: str | None = None
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + server.settings.timeout
        shown = request.partial_images or 0 if request.stream and line.info.previews and not server.safety else 0

        def tell(index: int, event: Event) -> None:
            try:
                loop.call_soon_threadsafe(self._events.put_nowait, (index, event))
            except RuntimeError:  # the loop is closed: no client is left to tell
                return

        self.jobs = [
            Job(order, partial(tell, i), deadline, preview_steps(order, shown)) for i, order in enumerate(orders)
        ]

    @classmethod
    async def start(
        cls, server: ImageServer, request: GenerationRequest, client: Client, upload: Upload | None = None
    ) -> Generation:
        """Checks a request and puts its pictures in line; ApiError 400, 404, 429 or 503 otherwise.

        upload: the pictures that an edit or a variation starts from.
        """
        line = server.line(request.model)

        def refused(reason: str, error: ApiError) -> ApiError:
            server.metrics.refused(line.info.name, reason)
            return error

        try:
            server.check_prompt(request.prompt)
        except ApiError as e:
            raise refused("prompt", e) from None
        if upload is None:
            orders = orders_of(request, line.info, server.settings, None)
        else:  # pictures are decoded and scaled
            orders = await asyncio.to_thread(orders_of, request, line.info, server.settings, upload)
        if not line.ready or not line.alive:
            raise refused("not_ready", ApiError(503, f"model {line.info.name} is not ready", retry_after=5))
        if len(orders) > line.capacity:
            raise ApiError(400, f"n: at most {line.capacity} pictures fit in line here", param="n")
        if wait := server.limiter.wait(client, len(orders)):
            said, code = "too many pictures a minute for this client", "rate_limit_exceeded"
            raise refused("rate", ApiError(429, said, code=code, retry_after=int(wait) + 1))
        generation = cls(server, line, request, client, orders)
        try:
            line.put(generation.jobs)
        except QueueFullError:
            error = ApiError(429, "too many pictures are waiting", code="queue_full", retry_after=line.retry_after())
            raise refused("queue_full", error) from None
        return generation

    def facts(self) -> dict[str, Any]:
        """What the access log says of it."""
        order = self.jobs[0].order
        prompts = {"prompt": order.prompt} if self._server.settings.log_prompts else {}
        sizes = {"size": order.size, "steps": order.steps, "guidance": order.guidance, "seed": order.seed}
        return {"model": self._info.name, "pictures": len(self.jobs), **sizes, **prompts}

    def close(self) -> None:
        """Gives up what is not finished, and counts how the request ended."""
        if self._outcome is None:
            self._end("cancelled")

    async def collect(self, base_url: str) -> GenerationResponse:
        """All pictures in one answer. ApiError 504 where they took too long, 500 where the model failed."""
        pictures: list[Picture | None] = [None] * len(self.jobs)
        try:
            while None in pictures:
                index, event = await self._events.get()
                if isinstance(event, Failed):
                    raise self._failed(event)
                if isinstance(event, Done):
                    pictures[index] = await self._finished(index, event.pixels, base_url)
            self._end("ok")
        finally:
            self.close()
        order = self.jobs[0].order
        return GenerationResponse(
            created=int(time.time()),
            data=[p for p in pictures if p is not None],
            model=self._info.name,
            size=order.size,
            requested_size=_requested(self._request, order),
            output_format=self._format,
            steps=order.steps,
            guidance=order.guidance,
            usage=self._usage(self.jobs),
            ignored=self._request.ignored,
        )

    async def stream(self, base_url: str) -> AsyncIterator[str]:
        """Server-sent events as OpenAI's API sends them; an `error` event ends a stream that fails."""
        left = len(self.jobs)
        shown = [0] * left
        try:
            yield self._waiting()
            while left:
                try:
                    index, event = await asyncio.wait_for(self._events.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield self._waiting()
                    continue
                if isinstance(event, Failed):
                    raise self._failed(event)
                if isinstance(event, Preview):
                    data = await asyncio.to_thread(picture_file, event.pixels, None, self._format)
                    body = self._event("partial_image", index, Picture(b64_json=_base64(data), seed=self._seed(index)))
                    body |= {"partial_image_index": shown[index], "step": event.step, "steps": event.steps}
                    shown[index] += 1
                    yield _sse(f"{self._kind}.partial_image", body)
                elif isinstance(event, Done):
                    left -= 1
                    body = self._event("completed", index, await self._finished(index, event.pixels, base_url))
                    body["usage"] = self._usage([self.jobs[index]]).model_dump()
                    body["ignored"] = self._request.ignored
                    yield _sse(f"{self._kind}.completed", body)
            self._end("ok")
        except ApiError as e:
            yield _sse("error", e.body())
        finally:
            self.close()

    async def _finished(self, index: int, pixels: Pixels, base_url: str) -> Picture:
        """A finished picture as clients get it. ApiError where the operator's check withholds it."""
        try:
            return await asyncio.to_thread(self._picture, index, pixels, base_url)
        except ApiError as e:
            self._end("withheld" if e.status == 400 else "error")
            raise

    def _waiting(self) -> str:
        """A comment of the stream, which other clients pass over: the place in line of the first picture that waits."""
        places = (self._line.place(job) for job in self.jobs)
        before, seconds = next((place for place in places if place is not None), (None, None))
        return f": waiting {json.dumps({'before': before, 'seconds': seconds})}\n\n"

    def _event(self, kind: str, index: int, picture: Picture) -> dict[str, Any]:
        order = self.jobs[index].order
        fixed = {
            "type": f"{self._kind}.{kind}",
            "created_at": int(time.time()),
            "size": order.size,
            "quality": "auto",
            "background": "opaque",
            "output_format": self._format,
            "image_index": index,
        }
        return fixed | picture.model_dump(exclude_none=True)

    def _picture(self, index: int, pixels: Pixels, base_url: str) -> Picture:
        job = self.jobs[index]
        quality = self._request.output_compression
        data = picture_file(
            pixels, parameters_of(self._info.name, job), self._format, 100 if quality is None else quality
        )
        if self._server.safety is not None:
            self._server.safety.check(data, job.prompt)
        picture = Picture(seed=job.order.seed, revised_prompt=job.revised_prompt)
        if self._by_url:
            picture.url = f"{base_url}v1/images/{self._server.store.put(data, self._format)}"
        else:
            picture.b64_json = _base64(data)
        return picture

    def _usage(self, jobs: list[Job]) -> Usage:
        text = sum(job.text_tokens for job in jobs)
        places = [job.order.width * job.order.height // self._info.multiple**2 for job in jobs]
        given = sum(n for n, job in zip(places, jobs, strict=True) if job.order.start is not None)
        return Usage(
            input_tokens=text + given,
            output_tokens=sum(places),
            total_tokens=text + given + sum(places),
            input_tokens_details={"text_tokens": text, "image_tokens": given},
        )

    def _seed(self, index: int) -> int:
        return self.jobs[index].order.seed

    def _failed(self, event: Failed) -> ApiError:
        self._end("timeout" if event.timed_out else "error")
        return ApiError(504, event.reason, code="timeout") if event.timed_out else ApiError(500, event.reason)

    def _end(self, outcome: str) -> None:
        self._outcome = outcome
        self._server.metrics.request(self._info.name, outcome)
        self._line.cancel(self.jobs)  # of no effect on those that are done


def _requested(request: GenerationRequest, order: Order) -> str | None:
    """The size that was asked for, where another is drawn."""
    return None if request.size in (None, "auto", order.size) else request.size


def _headers(request: GenerationRequest, order: Order) -> dict[str, str]:
    """What an answer says besides its body: the size drawn in place of another, and fields without effect."""
    headers = {"X-Ignored": ", ".join(request.ignored)} if request.ignored else {}
    requested = _requested(request, order)
    return headers if requested is None else headers | {"X-Size": f"{order.size}; requested={requested}"}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _sse(event: str, body: dict[str, Any]) -> str:
    return f"event: {event}\ndata: {json.dumps(body)}\n\n"
