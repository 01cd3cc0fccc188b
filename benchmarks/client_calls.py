"""The calls of benchmarks/clients.py that Python clients make: `python client_calls.py URL MODEL OPTIONS`.

Runs where those clients are installed, and so imports nothing of daybreak. A line of JSON for each call.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import struct
import sys
import urllib.request
import warnings
import zlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

warnings.simplefilter("ignore")
URL, MODEL, OPTIONS = sys.argv[1:4]
API = f"{URL}/v1"
PROMPT = "a red circle"
ANY, BY_URL = "--any-model", "--any-model --response-format url"
CALLS: list[tuple[str, str, str, Callable[[], Any]]] = []
"""(package, call as the table shows it, options of the server that it needs, the call)"""


def call(package: str, shown: str, options: str = "") -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Adds a call, which returns a picture, several, or what holds them."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        CALLS.append((package, shown, options, function))
        return function

    return add


def png(side: int = 32, alpha: bool = False) -> bytes:
    """A black picture; alpha: its left half transparent."""
    row = b"".join(b"\0\0\0" + (bytes([255 * (x >= side // 2)]) if alpha else b"") for x in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 6 if alpha else 2, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for _ in range(side)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def named(data: bytes, name: str = "picture.png") -> io.BytesIO:
    """A file as clients take one."""
    file = io.BytesIO(data)
    file.name = name
    return file


def size_of(picture: Any) -> str:
    """ "32x32" of a PNG as bytes, base64, an address, or an object that holds one. ValueError where it is none."""
    for field in ("b64_json", "url", "image", "data", "images"):
        if not isinstance(picture, str | bytes) and (value := getattr(picture, field, None)):
            picture = value
    if isinstance(picture, list | tuple):
        sizes = [size_of(one) for one in picture]
        return sizes[0] if len(sizes) == 1 else f"{len(sizes)} x {sizes[0]}"
    if hasattr(picture, "size") and isinstance(picture.size, tuple):  # Pillow's
        return f"{picture.size[0]}x{picture.size[1]}"
    if isinstance(picture, str) and picture.startswith("http"):
        with urllib.request.urlopen(picture) as answer:
            picture = answer.read()
    elif isinstance(picture, str):
        picture = base64.b64decode(picture, validate=True)
    if not isinstance(picture, bytes) or not picture.startswith(b"\x89PNG"):
        raise ValueError(f"no PNG, but {str(picture)[:80]}")
    return "{}x{}".format(*struct.unpack(">II", picture[16:24]))


# ---- OpenAI's own


def _openai() -> Any:
    import openai

    return openai.OpenAI(base_url=API, api_key="none", max_retries=0)


call("openai", "`images.generate(prompt)`")(lambda: _openai().images.generate(prompt=PROMPT).data)
call("openai", "`images.generate(model='gpt-image-2', size='1024x1024', quality='high')`", ANY)(
    lambda: _openai().images.generate(prompt=PROMPT, model="gpt-image-2", size="1024x1024", quality="high").data
)
call("openai", "`images.generate(model='dall-e-3', style='vivid', quality='hd', response_format='url')`", ANY)(
    lambda: (
        _openai()
        .images.generate(prompt=PROMPT, model="dall-e-3", style="vivid", quality="hd", response_format="url")
        .data
    )
)
call("openai", "`images.generate(stream=True, partial_images=2)`")(
    lambda: list(_openai().images.generate(prompt=PROMPT, stream=True, partial_images=2))
)
call("openai", "`images.edit(image, mask)`")(
    lambda: _openai().images.edit(image=named(png()), mask=named(png(alpha=True)), prompt=PROMPT).data
)
call("openai", "`images.edit([image, image])`")(
    lambda: _openai().images.edit(image=[named(png()), named(png())], prompt=PROMPT).data
)
call("openai", "`images.create_variation(image, n=2)`")(
    lambda: _openai().images.create_variation(image=named(png()), n=2).data
)


@call("openai", "`AsyncOpenAI().images.generate(n=2)`")
def _async() -> Any:
    import openai

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=API, api_key="none") as client:
            return (await client.images.generate(prompt=PROMPT, n=2)).data

    return asyncio.run(ask())


# ---- LiteLLM


def _litellm(function: str, model: str, **more: Any) -> Any:
    import litellm

    return getattr(litellm, function)(model=f"openai/{model}", api_base=API, api_key="none", **more).data


call("litellm", "`image_generation(model='openai/MODEL')`")(lambda: _litellm("image_generation", MODEL, prompt=PROMPT))
call("litellm", "`image_generation(model='openai/gpt-image-1', quality='high')`", ANY)(
    lambda: _litellm("image_generation", "gpt-image-1", prompt=PROMPT, quality="high")
)
call("litellm", "`image_edit(model='openai/MODEL', image)`")(
    lambda: _litellm("image_edit", MODEL, prompt=PROMPT, image=named(png()))
)
call("litellm", "`image_variation(model='openai/MODEL', image)`")(
    lambda: _litellm("image_variation", MODEL, image=named(png()))
)


# ---- pydantic-ai, haystack, semantic-kernel, langchain


def _pydantic_ai(model: str, **more: Any) -> Any:
    from pydantic_ai.images.openai import OpenAIImageGenerationModel
    from pydantic_ai.providers.openai import OpenAIProvider

    made = OpenAIImageGenerationModel(model, provider=OpenAIProvider(base_url=API, api_key="none"))
    return [one.content.data for one in asyncio.run(made.generate(PROMPT, **more)).images]


@call("pydantic-ai-slim", "`OpenAIImageGenerationModel('MODEL').generate(prompt, images=[image])`")
def _pydantic_ai_edit() -> Any:
    from pydantic_ai.messages import BinaryImage

    return _pydantic_ai(MODEL, images=[BinaryImage(png(), media_type="image/png")])


call("pydantic-ai-slim", "`OpenAIImageGenerationModel('MODEL').generate(prompt)`")(lambda: _pydantic_ai(MODEL))
call("pydantic-ai-slim", "`OpenAIImageGenerationModel('gpt-image-2').generate(prompt)`", ANY)(
    lambda: _pydantic_ai("gpt-image-2")
)


@call("haystack-ai", "`OpenAIImageGenerator().run(prompt)`", ANY)
def _haystack() -> Any:
    from haystack.components.generators import OpenAIImageGenerator
    from haystack.utils import Secret

    return OpenAIImageGenerator(api_base_url=API, api_key=Secret.from_token("none")).run(PROMPT)["images"]


def _semantic_kernel(model: str, function: str, **more: Any) -> Any:
    import openai
    from semantic_kernel.connectors.ai.open_ai import OpenAITextToImage

    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=API, api_key="none") as client:
            return await getattr(OpenAITextToImage(ai_model_id=model, async_client=client), function)(PROMPT, **more)

    return asyncio.run(ask())


call("semantic-kernel", "`OpenAITextToImage('MODEL').generate_images(prompt)`")(
    lambda: _semantic_kernel(MODEL, "generate_images")
)
call("semantic-kernel", "`OpenAITextToImage('gpt-image-1').generate_image(prompt, 1024, 1024)`", ANY)(
    lambda: _semantic_kernel("gpt-image-1", "generate_image", width=1024, height=1024)
)
call("semantic-kernel", "`OpenAITextToImage('MODEL').edit_image(prompt, [file], mask)`")(
    lambda: _semantic_kernel(
        MODEL, "edit_image", image_files=[named(png())], mask_file=named(png(alpha=True), "mask.png")
    )
)


@call("langchain-community", "`DallEAPIWrapper().run(prompt)`", BY_URL)
def _langchain() -> Any:
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

    return DallEAPIWrapper(api_key="none", base_url=API).run(PROMPT)


@call("langchain-community", "`OpenAIDALLEImageGenerationTool(api_wrapper).run(prompt)`", BY_URL)
def _langchain_tool() -> Any:
    from langchain_community.tools.openai_dalle_image_generation import OpenAIDALLEImageGenerationTool
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

    return OpenAIDALLEImageGenerationTool(api_wrapper=DallEAPIWrapper(api_key="none", base_url=API)).run(PROMPT)


# ---- Hugging Face

call("huggingface_hub", "`InferenceClient(model='URL/models/MODEL').text_to_image(prompt)`")(
    lambda: _hugging_face().text_to_image(PROMPT)
)
call("huggingface_hub", "the same with width, height, steps, guidance, seed, negative prompt")(
    lambda: _hugging_face().text_to_image(
        PROMPT, width=32, height=32, num_inference_steps=4, guidance_scale=2.0, seed=1, negative_prompt="grey"
    )
)


def _hugging_face() -> Any:
    from huggingface_hub import InferenceClient

    return InferenceClient(model=f"{URL}/models/{MODEL}", token="none")


# ---- Open WebUI, whose bodies these are (its routers/images.py, of November 2026)


def _sent(path: str, body: bytes, content_type: str) -> Any:
    headers = {"Authorization": "Bearer none", "Content-Type": content_type}
    request = urllib.request.Request(f"{API}/images/{path}", body, headers, method="POST")
    with urllib.request.urlopen(request) as answer:
        return [one.get("url") or one["b64_json"] for one in json.load(answer)["data"]]


def _json(**fields: object) -> Any:
    return _sent("generations", json.dumps(fields).encode(), "application/json")


call("Open WebUI", "images, engine openai, as it is set up", ANY)(
    lambda: _json(model="dall-e-2", prompt=PROMPT, n=1, size="512x512", response_format="b64_json")
)
call("Open WebUI", "images, model gpt-image-1, size auto", ANY)(
    lambda: _json(model="gpt-image-1", prompt=PROMPT, n=1, size="auto")
)


@call("Open WebUI", "edit of two pictures, model gpt-image-1", ANY)
def _open_webui_edit() -> Any:
    parts = [f'name="{k}"\r\n\r\n{v}'.encode() for k, v in (("model", "gpt-image-1"), ("prompt", PROMPT), ("n", "1"))]
    head = b'name="image[]"; filename="image.png"\r\nContent-Type: image/png\r\n\r\n'
    parts += [head + png(), head + png()]
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return _sent("edits", body, "multipart/form-data; boundary=b")


def main() -> None:
    """Makes the calls that need OPTIONS."""
    for package, shown, options, function in CALLS:
        if options != OPTIONS:
            continue
        try:
            result = f"ok, {size_of(function())}"
        except Exception as e:
            result = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
        client = package if package == "Open WebUI" else f"{package} {version(package)}"
        shown = re.sub(r"\bMODEL\b", MODEL, shown)
        print(json.dumps({"client": client, "call": shown, "options": options, "result": result}), flush=True)


if __name__ == "__main__":
    main()
