"""What goes over the wire: OpenAI's image API, with steps, guidance, seed and negative_prompt beside it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from daybreak.serve.settings import MAX_GUIDANCE, MAX_PICTURES, MAX_PROMPT

Text = Annotated[str, StringConstraints(max_length=MAX_PROMPT)]
SIZE = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"


class GenerationRequest(BaseModel):
    """The body of POST /v1/images/generations. Unknown fields are refused rather than ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[Text, Field(min_length=1, description="What to generate.")]
    model: str | None = Field(default=None, max_length=100, description="A name of /v1/models; none: the first.")
    n: int | None = Field(default=None, ge=1, le=MAX_PICTURES, description="How many pictures; none: 1.")
    size: str | None = Field(
        default=None, pattern=SIZE, description="WIDTHxHEIGHT in px; none or auto: the model's own."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**32 - 1,
        description="Picture i is generated from the noise of seed + i; none: chosen at random.",
    )
    steps: int | None = Field(default=None, ge=1, le=10_000, description="Sampler steps; none: the model's own.")
    guidance: float | None = Field(
        default=None, ge=0, le=MAX_GUIDANCE, allow_inf_nan=False, description="Scale of guidance, 1 is none."
    )
    negative_prompt: Text | None = Field(default=None, description="What guidance leads away from.")
    expand: bool | None = Field(
        default=None, description="False: take the prompt as it stands; else the model may write it out first."
    )
    revised_prompt: Text | None = Field(
        default=None, description="Accepted and not used, as a PNG's parameters hold it."
    )
    response_format: Literal["b64_json", "url"] | None = Field(default=None, description="None: b64_json.")
    stream: bool | None = Field(default=None, description="Send server-sent events, as partial_images says.")
    partial_images: int | None = Field(
        default=None, ge=0, le=100, description="How many intermediate pictures to stream."
    )
    output_format: Literal["png"] | None = None
    background: Literal["auto", "opaque"] | None = None
    quality: Literal["auto", "standard"] | None = None
    moderation: Literal["auto", "low"] | None = Field(default=None, description="Accepted; nothing is moderated here.")
    user: str | None = Field(default=None, max_length=200, description="Accepted and not used.")

    @field_validator("prompt", "negative_prompt", "revised_prompt", "model", "user")
    @classmethod
    def _must_be_unicode(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"[\ud800-\udfff]", value):
            raise ValueError("holds half of a surrogate pair, which is no text")
        return value


class Picture(BaseModel):
    """One picture of an answer."""

    b64_json: str | None = Field(
        default=None, description="The PNG; its text chunk `parameters` says how it was generated."
    )
    url: str | None = None
    seed: int
    revised_prompt: str | None = Field(default=None, description="The prompt that the model got, if written out.")


class GenerationResponse(BaseModel):
    """The answer without streaming."""

    created: int
    data: list[Picture]
    model: str
    size: str
    output_format: Literal["png"] = "png"
    background: Literal["opaque"] = "opaque"
    steps: int
    guidance: float


class ModelCard(BaseModel):
    """A model as /v1/models lists it. Sizes in px."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["daybreak"] = "daybreak"
    size: int = Field(description="The side the model was trained at, and the default.")
    size_multiple: int = Field(description="Divides every side.")
    max_size: int
    steps: int
    max_steps: int
    guidance: float
    previews: bool = Field(description="Whether intermediate pictures can be streamed.")
    expands: bool = Field(description="Whether prompts are written out first.")


class ModelList(BaseModel):
    """The answer of /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Status(BaseModel):
    """The answer of /health and /ready."""

    status: str


class ErrorDetail(BaseModel):
    """Why there is no picture."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for the OpenAPI description."""
    return {status: {"model": ErrorBody} for status in statuses}
