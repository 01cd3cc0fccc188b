"""The server behind the page of `daybreak watch`: runs, what is new of them, and their pictures."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.middleware.base import RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from daybreak.config import ConfigError
from daybreak.run_folder import SHOWN
from daybreak.run_notes import Notes, write_notes
from daybreak.run_requests import Kind, ask
from daybreak.watch.find import find_runs
from daybreak.watch.glance import Glance
from daybreak.watch.page import live_page, with_paths
from daybreak.watch.run import WatchedRun

PICTURES = (".png", ".jpg")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Style and script stand in the page, as in report.html, and write text as text only."""


class Runs:
    """The runs below some places, as they come and go. Its methods are called by any thread."""

    def __init__(self, places: list[Path]) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._found: dict[str, Path] = {}
        self._glances: dict[Path, Glance] = {}
        self._watched: dict[Path, WatchedRun] = {}

    def all(self) -> list[dict[str, Any]]:
        """Each run at a glance."""
        with self._lock:
            found = self._found = find_runs(self._places)
            self._glances = {f: self._glances.get(f) or Glance(f) for f in found.values()}
            self._watched = {f: w for f, w in self._watched.items() if f in self._glances}
            return [{"name": name} | self._glances[folder].tell() for name, folder in found.items()]

    def folder(self, name: str) -> Path:
        """Of the run of this name; 404 where there is none."""
        if name not in self._found:
            self._found = find_runs(self._places)
        folder = self._found.get(name)
        if folder is None:
            raise HTTPException(404, f"there is no run {name} here")
        return folder

    def watched(self, name: str) -> WatchedRun:
        """The run of this name."""
        folder = self.folder(name)
        with self._lock:
            return self._watched.setdefault(folder, WatchedRun(folder))


class Asked(BaseModel):
    """What a run that trains is asked for (run_requests.py)."""

    name: str
    kind: Kind
    prompts: list[str] = []


class Noted(BaseModel):
    """What is kept with a run (run_notes.py)."""

    name: str
    text: str
    favourite: bool


def make_app(places: list[Path], hosts: list[str], controls: bool) -> FastAPI:
    """The application over the runs in `places`; answers requests for `hosts` only.

    controls: whether who looks may also ask a run to stop, to save or to draw, and keep notes.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    runs, page = Runs(places), live_page(controls)

    @app.middleware("http")
    async def with_headers(request: Request, answer: RequestResponseEndpoint) -> Response:
        response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def live() -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    @app.get("/api/runs")
    def all_runs() -> JSONResponse:
        return _fresh(runs.all())

    @app.get("/api/run")
    def one(name: str, cursor: Annotated[str, Query(max_length=300)] = "") -> JSONResponse:
        return _fresh(runs.watched(name).tell(cursor))

    @app.get("/api/inside")
    def inside(name: str, folder: str) -> JSONResponse:
        shown = runs.watched(name).inside(folder)
        if shown is None:
            raise HTTPException(404, f"{name} has no samples {folder}")
        return _fresh(with_paths(folder, shown))

    @app.get("/file")
    def file(name: str, path: str) -> FileResponse:
        folder = runs.folder(name).resolve()
        wanted = (folder / path).resolve()
        if not wanted.is_relative_to(folder) or wanted.suffix not in PICTURES or not wanted.is_file():
            raise HTTPException(404, f"{name} has no picture {path}")
        # Samples of a step are drawn once, but for a run that goes back to a checkpoint.
        kept = "private, max-age=60" if (wanted.parent / SHOWN).is_file() else "no-cache"
        return FileResponse(wanted, headers={"Cache-Control": kept})

    def of_this_page(request: Request) -> None:
        """403 for what a page from elsewhere sends, and where looking is all that is allowed."""
        if not controls or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise HTTPException(403, "this page may only look at runs: it is open to others (--anonymous)")

    @app.post("/api/ask")
    def ask_run(request: Request, asked: Asked) -> JSONResponse:
        of_this_page(request)
        with told():
            ask(runs.folder(asked.name), asked.kind, tuple(asked.prompts), "the page of daybreak watch")
        return _fresh({})

    @app.post("/api/notes")
    def note(request: Request, noted: Noted) -> JSONResponse:
        of_this_page(request)
        with told():
            write_notes(runs.folder(noted.name), Notes(noted.text, noted.favourite))
        return _fresh({})

    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=3)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    return app


@contextmanager
def told() -> Generator[None]:
    """A mistake of the one who asks is answered with 400 and its line."""
    try:
        yield
    except ConfigError as e:
        raise HTTPException(400, str(e)) from None


def _fresh(value: Any) -> JSONResponse:
    return JSONResponse(value, headers={"Cache-Control": "no-store"})
