"""What goes over the wire: OpenAI's image API, with steps, guidance, seed and negative_prompt beside it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from daybreak.evaluate.adapter_option import MAX_NAME
from daybreak.serve.settings import MAX_GUIDANCE, MAX_LORA, MAX_LORAS, MAX_PICTURES, MAX_PROMPT

Text = Annotated[str, StringConstraints(max_length=MAX_PROMPT)]
Name = Annotated[str, StringConstraints(max_length=MAX_NAME)]
Strength = Annotated[float, Field(ge=-MAX_LORA, le=MAX_LORA, allow_inf_nan=False)]
Format = Literal["png", "jpeg", "webp"]
SIZE = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
NO_EFFECT = (
    "quality", "complexity", "style", "moderation", "user", "safety_identifier", "input_fidelity", "revised_prompt",
)  # fmt: skip
"""Fields that clients send and that change nothing here; an answer lists those that were given as `ignored`."""


class GenerationRequest(BaseModel):
    """The body of POST /v1/images/generations. Fields that neither OpenAI's API nor this server has are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[Text, Field(min_length=1, description="What to generate.")]
    model: str | None = Field(default=None, max_length=100, description="A name of /v1/models; none: the first.")
    n: int | None = Field(default=None, ge=1, le=MAX_PICTURES, description="How many pictures; none: 1.")
    size: str | None = Field(
        default=None,
        pattern=SIZE,
        description="WIDTHxHEIGHT in px; none or auto: the model's own. Of a size that the model does not have the "
        "nearest is drawn, and the answer holds it.",
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
    loras: dict[Name, Strength] | None = Field(
        default=None,
        max_length=MAX_LORAS,
        description="Adapters to draw with, of the model's `loras`, each with its strength: 0 is without it, 1 as it "
        "was trained.",
    )
    revised_prompt: Text | None = Field(default=None, description="No effect: a PNG's parameters hold it.")
    response_format: Literal["b64_json", "url"] | None = Field(default=None, description="None: the server's default.")
    stream: bool | None = Field(default=None, description="Send server-sent events, as partial_images says.")
    partial_images: int | None = Field(
        default=None, ge=0, le=100, description="How many intermediate pictures to stream."
    )
    output_format: Format | None = Field(default=None, description="None: png.")
    output_compression: int | None = Field(
        default=None, ge=0, le=100, description="Quality of jpeg and webp, 100 is best; none: 100. No effect on png."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        default=None, description="Pictures are opaque; transparent is refused."
    )
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        default=None, description="No effect; `steps` is what there is."
    )
    complexity: Literal["low", "medium", "high"] | None = Field(default=None, description="No effect.")
    style: Literal["vivid", "natural"] | None = Field(default=None, description="No effect.")
    moderation: Literal["auto", "low"] | None = Field(default=None, description="No effect.")
    input_fidelity: Literal["low", "high"] | None = Field(default=None, description="No effect.")
    user: str | None = Field(default=None, max_length=200, description="No effect.")
    safety_identifier: str | None = Field(default=None, max_length=200, description="No effect.")

    @field_validator("prompt", "negative_prompt", "revised_prompt", "model", "user", "safety_identifier", "loras")
    @classmethod
    def _must_be_unicode(cls, value: str | dict[str, float] | None) -> str | dict[str, float] | None:
        if re.search(r"[\ud800-\udfff]", "".join(value or "")):
            raise ValueError("holds half of a surrogate pair, which is no text")
        return value

    @field_validator("size", mode="before")
    @classmethod
    def _must_be_a_size(cls, value: Any) -> Any:
        if isinstance(value, str) and not re.match(SIZE, value):
            raise ValueError("must be auto or WIDTHxHEIGHT in px, such as 64x48")
        return value

    @field_validator("background")
    @classmethod
    def _must_be_opaque(cls, value: str | None) -> str | None:
        if value == "transparent":
            raise ValueError("the models here draw opaque pictures only; leave it out, or ask for opaque")
        return value

    @property
    def ignored(self) -> list[str]:
        """The fields that were given and have no effect; their neutral value `auto` counts as not given."""
        names = [name for name in NO_EFFECT if getattr(self, name) not in (None, "auto")]
        plain = (self.output_format or "png") == "png" and self.output_compression not in (None, 100)
        return [*names, "output_compression"] if plain else names


class EditRequest(GenerationRequest):
    """The fields of POST /v1/images/edits and /v1/images/variations beside their pictures. A form's values are text."""

    model_config = ConfigDict(extra="forbid", strict=False)

    prompt: Annotated[Text, Field(description="What to draw; variations have none.")] = ""
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the steps that are taken from the picture on: 1 keeps nothing of it. None: 1 with a "
        "mask, 0.6 without.",
    )


class Picture(BaseModel):
    """One picture of an answer."""

    b64_json: str | None = Field(
        default=None, description="The file; it says within how it was generated (PNG: the text chunk `parameters`)."
    )
    url: str | None = None
    seed: int
    revised_prompt: str | None = Field(default=None, description="The prompt that the model got, if written out.")


class Usage(BaseModel):
    """Tokens, as OpenAI's API counts them: of text those that the model reads, of pictures the places it draws."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int]


class GenerationResponse(BaseModel):
    """The answer without streaming."""

    created: int
    data: list[Picture]
    model: str
    size: str = Field(description="The size drawn.")
    requested_size: str | None = Field(
        default=None, description="The size asked for, where the model does not have it."
    )
    quality: Literal["auto"] = "auto"
    output_format: Format = "png"
    background: Literal["opaque"] = "opaque"
    steps: int
    guidance: float
    usage: Usage
    ignored: list[str] = Field(default=[], description="Fields of the request that have no effect here.")


class InferenceParameters(BaseModel):
    """How to draw, in the words of Hugging Face's inference API."""

    model_config = ConfigDict(extra="forbid", strict=True)

    negative_prompt: Text | None = None
    width: int | None = Field(default=None, ge=1, le=99_999)
    height: int | None = Field(default=None, ge=1, le=99_999)
    num_inference_steps: int | None = Field(default=None, ge=1, le=10_000)
    guidance_scale: float | None = Field(default=None, ge=0, le=MAX_GUIDANCE, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    scheduler: str | None = Field(default=None, max_length=100, description="No effect.")
    loras: dict[Name, Strength] | None = Field(default=None, max_length=MAX_LORAS, description="As generations have.")


class InferenceRequest(BaseModel):
    """The body of POST /models/{name}, Hugging Face's inference API for text to image."""

    model_config = ConfigDict(extra="forbid", strict=True)

    inputs: Annotated[Text, Field(min_length=1, description="What to generate.")]
    parameters: InferenceParameters = InferenceParameters()


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
    edits: bool = Field(description="Whether it can start from a picture, and keep a part of it.")
    loras: list[str] = Field(description="Names of the adapters that a request may ask for.")
    aliases: list[str] = Field(description="Other names that lead to it.")


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


def form_of(fields: type[BaseModel], mask: bool) -> dict[str, Any]:
    """The OpenAPI description of a multipart body: `image` once or several times, perhaps `mask`, and `fields`."""
    schema = fields.model_json_schema()
    file = {"type": "string", "format": "binary"}
    files = {"image": {"type": "array", "items": file, "minItems": 1}} | ({"mask": file} if mask else {})
    properties = schema["properties"] | files
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": schema | {"properties": properties, "required": ["image"]}}},
        }
    }
