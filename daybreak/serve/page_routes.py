"""What the page asks beside the API of pictures: examples, sizes and words of a model. Not for other clients."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from daybreak.serve.routes import Server, Who
from daybreak.serve.settings import MAX_PROMPT

router = APIRouter(prefix="/page", include_in_schema=False)


class Known(BaseModel):
    """A model, as the page shows it. sides: of the squares it was trained at, px; ratio: the widest shape."""

    examples: tuple[str, ...]
    sides: tuple[int, ...]
    ratio: float


class Question(BaseModel):
    """A prompt whose words are asked after."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(default=None, max_length=100)
    prompt: Annotated[str, StringConstraints(max_length=MAX_PROMPT)]


class Word(BaseModel):
    """A word that no caption has, and the one it may stand for."""

    word: str
    close: str | None


class Unseen(BaseModel):
    """captions: how many were looked at."""

    words: list[Word]
    captions: int


@router.get("/known")
async def known(server: Server, _client: Who, model: str | None = None) -> Known:
    """Some of a model's captions, and the sizes that it was trained at."""
    about = server.line(model).about
    return Known(examples=about.words.examples, sides=about.sides, ratio=about.ratio)


@router.post("/unseen")
def unseen(question: Question, server: Server, _client: Who) -> Unseen:
    """The words of a prompt that the model's captions do not have.

    Not async, so in a thread: among 200,000 words it takes a tenth of a second.
    """
    words = server.line(question.model).about.words
    found = [Word(word=word, close=close) for word, close in words.unseen(question.prompt)]
    return Unseen(words=found, captions=words.count)
