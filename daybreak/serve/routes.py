"""The HTTP interface, top-down: pictures, models, health, figures, the page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from daybreak.serve.errors import ApiError
from daybreak.serve.generation import Generation
from daybreak.serve.images import FILE_NAME
from daybreak.serve.keys import Client, digest
from daybreak.serve.schemas import (
    GenerationRequest,
    GenerationResponse,
    ModelCard,
    ModelList,
    Status,
    problems,
)
from daybreak.serve.server import ImageServer

PAGE = Path(__file__).parent / "page"
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "description": "JSON"}},
    "required": ["event", "data"],
}
"""Schema of a server-sent event."""

router = APIRouter()
bearer = HTTPBearer(auto_error=False, description="An API key, where the server asks for one.")


async def image_server(request: Request) -> ImageServer:
    """The server behind the app."""
    server = request.app.state.server
    assert isinstance(server, ImageServer)
    return server


Server = Annotated[ImageServer, Depends(image_server)]


async def who(
    request: Request, server: Server, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Client:
    """The client that asks; 401 where the server has keys and the request has none of them."""
    if server.keys is None:
        return Client(request.client.host if request.client else "unknown")
    client = server.keys.get(digest(credentials.credentials)) if credentials else None
    if client is None:
        raise ApiError(401, "an API key is needed: Authorization: Bearer KEY", code="invalid_api_key")
    return client


Who = Annotated[Client, Depends(who)]


@router.post(
    "/v1/images/generations",
    response_model=GenerationResponse,
    response_model_exclude_none=True,
    responses=problems(400, 401, 404, 408, 413, 429, 500, 503, 504)
    | {200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": "Pictures"}},
)
async def generate(
    request: Request, body: GenerationRequest, server: Server, client: Who
) -> Response | GenerationResponse:
    """Generate pictures. As OpenAI's API, with `steps`, `guidance`, `seed` and `negative_prompt` beside it.

    With `stream`, server-sent events: `image_generation.partial_image` as often as `partial_images` says, then
    `image_generation.completed`, for each picture (`image_index`).
    """
    generation = Generation.start(server, body, client)  # refuses before anything is sent
    if body.stream:
        events = generation.stream(str(request.base_url))
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    drawing = asyncio.ensure_future(generation.collect(str(request.base_url)))
    leaving = asyncio.ensure_future(_client_left(request))
    try:
        await asyncio.wait({drawing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not drawing.done():
            return Response(status_code=499)  # the client is gone
        return drawing.result()
    finally:
        generation.close()
        drawing.cancel()
        leaving.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/v1/images/{name}",
    response_class=Response,
    responses=problems(404) | {200: {"content": {"image/png": {}}, "description": "The picture"}},
)
async def picture(name: str, server: Server) -> Response:
    """A picture that was asked for with `response_format: url`. Its name is its key; it is kept for an hour at most."""
    data = server.store.get(name) if re.match(FILE_NAME, name) else None
    if data is None:
        raise ApiError(404, "no such picture; they are kept for an hour at most")
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/v1/models", responses=problems(401))
async def models(server: Server, _client: Who) -> ModelList:
    """The models that generate pictures; the first is the default."""
    return ModelList(data=[server.card(name) for name in server.workers])


@router.get("/v1/models/{name}", responses=problems(401, 404))
async def model(name: str, server: Server, _client: Who) -> ModelCard:
    """One of them."""
    return server.card(server.worker(name).model.info.name)


@router.get("/health")
async def health() -> Status:
    """Whether the process answers."""
    return Status(status="ok")


@router.get("/ready", responses=problems(503))
async def ready(server: Server) -> Status:
    """Whether pictures can be generated: all models are warm, and the server is not going down."""
    server.check_ready()
    return Status(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(server: Server) -> Response:
    """Figures for Prometheus."""
    return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})
