"""The server behind a voter's link: the page, the voter's pictures, and votes in; / says what this is.

Nothing that leaves here names a contestant: pictures go by their place in the voter's own order, as `3/left`, and carry
no date, tag or metadata of the file they come from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field
from starlette.middleware.base import RequestResponseEndpoint

from daybreak.vote.pairs import Pair
from daybreak.vote.study import QUESTIONS, Study, picture_path
from daybreak.vote.votes import Votes

PAGE = Path(__file__).parent / "page"
STATIC = {"style.css": "text/css", "vote.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the token in the link is the voter's key
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


class Ballot(BaseModel):
    """A vote as the page sends it; `submission` is an id that the page makes up, once for each vote."""

    step: int = Field(ge=0)
    choice: Literal["left", "right", "tie"]
    submission: str = Field(min_length=8, max_length=64)
    seconds: float | None = Field(default=None, ge=0, le=86_400)


class Withdrawal(BaseModel):
    """Takes the vote with this submission id back."""

    submission: str = Field(min_length=8, max_length=64)


def make_app(folder: Path, study: Study, votes: Votes) -> FastAPI:
    """The application over a study's folder. Unknown tokens and pictures get 404, malformed votes 422."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    numbers = {v.token: v.number for v in votes.voters()}
    schedules: dict[int, list[Pair]] = {n: votes.pairs(n) for n in numbers.values()}

    def voter_of(token: str) -> int:
        if token not in numbers:
            raise HTTPException(404, "This link is not valid.")
        return numbers[token]

    def state(voter: int) -> dict[str, Any]:
        """What the page shows: the voter's next step, or that there is none."""
        pairs, asked = schedules[voter], study.questions
        standing = votes.standing(voter)
        position, question = divmod(standing.done, len(asked))
        common = {
            "step": standing.done,
            "steps": len(pairs) * len(asked),
            "pairs": len(pairs),
            "undo": standing.last,
        }
        if position >= len(pairs):
            return common | {"finished": True}
        ahead = range(position + 1, min(position + 3, len(pairs)))
        return common | {
            "finished": False,
            "pair": position,
            "question": QUESTIONS[asked[question]],
            "question_number": question,
            "questions": len(asked),
            "prompt": study.prompts[pairs[position].item],
            "left": f"pictures/{position}/left",
            "right": f"pictures/{position}/right",
            "ahead": [f"pictures/{p}/{side}" for p in ahead for side in ("left", "right")],
        }

    @app.middleware("http")
    async def add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.get("/")
    def entrance() -> Response:
        return HTMLResponse((PAGE / "entrance.html").read_text("utf-8"))

    @app.get("/v/{token}/")
    def page(token: str) -> Response:
        if token not in numbers:
            return HTMLResponse((PAGE / "unknown.html").read_text("utf-8"), 404)
        return HTMLResponse((PAGE / "index.html").read_text("utf-8"))

    @app.get("/page/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        return Response((PAGE / name).read_bytes(), media_type=STATIC[name])

    @app.get("/v/{token}/state")
    def get_state(token: str) -> dict[str, Any]:
        return state(voter_of(token))

    @app.get("/v/{token}/pictures/{position}/{side}")
    def picture(token: str, position: int, side: Literal["left", "right"]) -> Response:
        pairs = schedules[voter_of(token)]
        if not 0 <= position < len(pairs):
            raise HTTPException(404)
        pair = pairs[position]
        path = picture_path(folder, pair.item, pair.left if side == "left" else pair.right)
        return Response(
            path.read_bytes(), media_type="image/png", headers={"Cache-Control": "private, max-age=86400, immutable"}
        )

    @app.post("/v/{token}/votes")
    def vote(token: str, ballot: Annotated[Ballot, Body()]) -> dict[str, Any]:
        voter = voter_of(token)
        counted = votes.cast(voter, ballot.step, ballot.choice, ballot.submission, ballot.seconds)
        return state(voter) | {"counted": counted}

    @app.post("/v/{token}/undo")
    def undo(token: str, withdrawal: Annotated[Withdrawal, Body()]) -> dict[str, Any]:
        voter = voter_of(token)
        votes.withdraw(voter, withdrawal.submission)
        return state(voter)

    return app
