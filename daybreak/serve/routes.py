"""The HTTP interface, top-down: pictures, models, health, figures, the page."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError

from daybreak.serve.access_log import note
from daybreak.serve.errors import ApiError
from daybreak.serve.generation import Generation
from daybreak.serve.images import FILE_NAME, FORMATS
from daybreak.serve.keys import Client, digest
from daybreak.serve.schemas import (
    EditRequest,
    GenerationRequest,
    GenerationResponse,
    InferenceRequest,
    ModelCard,
    ModelList,
    Status,
    form_of,
    problems,
)
from daybreak.serve.server import ImageServer
from daybreak.serve.uploads import Upload, read_form

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


ANSWERS: dict[str, Any] = {
    "response_model": GenerationResponse,
    "response_model_exclude_none": True,
    "responses": problems(400, 401, 403, 404, 408, 413, 429, 500, 503, 504)
    | {200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": "Pictures"}},
}
"""How the routes that draw answer."""


@router.post("/v1/images/generations", **ANSWERS)
async def generate(
    request: Request, response: Response, body: GenerationRequest, server: Server, client: Who
) -> Response | GenerationResponse:
    """Generate pictures. As OpenAI's API, with `steps`, `guidance`, `seed` and `negative_prompt` beside it.

    With `stream`, server-sent events: `image_generation.partial_image` as often as `partial_images` says, then
    `image_generation.completed`, for each picture (`image_index`).
    """
    generation = await Generation.start(server, body, client)  # refuses before anything is sent
    return await _answer(request, response, generation, bool(body.stream))


@router.post("/v1/images/edits", **ANSWERS, openapi_extra=form_of(EditRequest, mask=True))
async def edit(request: Request, response: Response, server: Server, client: Who) -> Response | GenerationResponse:
    """Draw on from pictures: `image` once or several times, the fields of generations, and `strength`.

    Where `mask` is transparent (or, without transparency, white) the picture may change; the rest stays as it is.
    """
    upload = await read_form(request)
    return await _drawn_from(request, response, server, client, upload)


@router.post("/v1/images/variations", **ANSWERS, openapi_extra=form_of(EditRequest, mask=False))
async def vary(request: Request, response: Response, server: Server, client: Who) -> Response | GenerationResponse:
    """Other pictures like one: `image`, and `strength`, which says how much is drawn anew."""
    upload = await read_form(request)
    for field, given in (("mask", upload.mask is not None), ("prompt", "prompt" in upload.fields)):
        if given:
            raise ApiError(400, f"{field}: variations have none; edits do", param=field, code="unknown_parameter")
    return await _drawn_from(request, response, server, client, upload)


@router.post(
    "/models/{name:path}",
    response_class=Response,
    responses=problems(400, 401, 404, 408, 413, 429, 500, 503, 504)
    | {200: {"content": {"image/png": {}}, "description": "The picture"}},
)
async def infer(name: str, request: Request, body: InferenceRequest, server: Server, client: Who) -> Response:
    """Generate one picture as Hugging Face's inference API does: `InferenceClient(model=".../models/NAME")`."""
    p = body.parameters
    side = server.line(name).info.size
    fields = GenerationRequest(
        prompt=body.inputs,
        model=name,
        negative_prompt=p.negative_prompt,
        size=f"{p.width or side}x{p.height or side}",
        steps=p.num_inference_steps,
        guidance=p.guidance_scale,
        seed=p.seed,
        loras=p.loras,
        response_format="b64_json",
    )
    generation = await Generation.start(server, fields, client)
    answer = await _answer(request, Response(), generation, stream=False)
    if isinstance(answer, GenerationResponse):
        picture = base64.b64decode(answer.data[0].b64_json or "")
        return Response(picture, headers=generation.headers, media_type="image/png")
    return answer


async def _drawn_from(
    request: Request, response: Response, server: ImageServer, client: Client, upload: Upload
) -> Response | GenerationResponse:
    try:
        fields = EditRequest.model_validate(upload.fields)
    except ValidationError as e:
        raise RequestValidationError(e.errors()) from None
    generation = await Generation.start(server, fields, client, upload)
    return await _answer(request, response, generation, bool(fields.stream))


async def _answer(
    request: Request, response: Response, generation: Generation, stream: bool
) -> Response | GenerationResponse:
    """The pictures at once, or as they come; gives them up where the client leaves."""
    note(request.state, generation.client, generation.facts())
    if stream:
        headers = {"Cache-Control": "no-store"} | generation.headers
        events = generation.stream(str(request.base_url))
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)
    response.headers.update(generation.headers)
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
    responses=problems(404)
    | {200: {"content": {f"image/{kind}": {} for kind in FORMATS}, "description": "The picture"}},
)
async def picture(name: str, server: Server) -> Response:
    """A picture that was asked for with `response_format: url`. Its name is its key; it is kept for an hour at most."""
    data = server.store.get(name) if re.match(FILE_NAME, name) else None
    if data is None:
        raise ApiError(404, "no such picture; they are kept for an hour at most")
    return Response(
        data, media_type=f"image/{name.rpartition('.')[2]}", headers={"Cache-Control": "private, max-age=3600"}
    )


@router.get("/v1/models", responses=problems(401))
async def models(server: Server, _client: Who) -> ModelList:
    """The models that generate pictures; the first is the default."""
    return ModelList(data=[server.card(name) for name in server.lines])


@router.get("/v1/models/{name}", responses=problems(401, 404))
async def model(name: str, server: Server, _client: Who) -> ModelCard:
    """One of them."""
    return server.card(server.line(name).info.name)


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
