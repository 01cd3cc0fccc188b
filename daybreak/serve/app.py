"""The FastAPI app around a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from daybreak import __version__
from daybreak.serve import errors, page_routes
from daybreak.serve.access_log import AccessLog
from daybreak.serve.middleware import Guard
from daybreak.serve.routes import PAGE, router
from daybreak.serve.server import ImageServer


def create_app(server: ImageServer) -> FastAPI:
    """An app around `server`, which on its way down generates what was accepted."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        yield
        await asyncio.to_thread(server.stop)

    app = FastAPI(
        title="daybreak",
        version=__version__,
        description="Pictures from text, by models that daybreak trained. Compatible with OpenAI's image API.",
        lifespan=lifespan,
        docs_url=None,  # they load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.server = server
    app.include_router(router)
    app.include_router(page_routes.router)
    app.mount("/static", StaticFiles(directory=PAGE, packages=[("daybreak.html", "shared")]), name="static")
    errors.install(app)
    app.add_middleware(Guard)
    if server.settings.access_log is not None:
        app.add_middleware(AccessLog, file=server.settings.access_log)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(server.settings.hosts))
    _describe_wrong_input_as_400(app)
    return app


def _describe_wrong_input_as_400(app: FastAPI) -> None:
    """FastAPI announces 422 for wrong input, in a form of its own; here that is 400, as OpenAI has it."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            description = original()
            for path in description["paths"].values():
                for route in path.values():
                    route["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                description["components"]["schemas"].pop(name, None)
        return app.openapi_schema or original()

    setattr(app, "openapi", openapi)  # noqa: B010 - a method is replaced, as FastAPI documents
