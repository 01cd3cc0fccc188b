"""Drawing on from pictures: edits and variations through OpenAI's own client, and what is no picture."""

import base64
import io
import zlib

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

EDITS = "/v1/images/edits"


def file_of(pixels: np.ndarray, kind: str = "PNG") -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    file.name = f"picture.{kind.lower()}"
    file.seek(0)
    return file


def pixels_of(b64: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64)))).astype(int)


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def side(server) -> int:
    return server.http.get("/v1/models").json()["data"][0]["size"]


@pytest.fixture(scope="module")
def stripes(side) -> np.ndarray:
    """[side, side, 3]: what the model would never draw by itself."""
    rows = np.where(np.arange(side) // 2 % 2, 255, 0).astype(np.uint8)
    return np.repeat(np.repeat(rows[:, None, None], side, 1), 3, 2)


def test_less_strength_stays_nearer_to_the_picture(client, stripes):
    def distance(strength: float) -> float:
        options = {"strength": strength, "seed": 1, "steps": 10}
        answer = client.images.edit(image=file_of(stripes), prompt="a blue square", extra_body=options)
        return np.abs(pixels_of(answer.data[0].b64_json) - stripes).mean()

    near, middle, far = (distance(s) for s in (0.1, 0.5, 1.0))
    assert near < middle < far


def test_full_strength_is_the_picture_of_the_prompt_alone(client, server, stripes):
    edited = client.images.edit(image=file_of(stripes), prompt="a circle", extra_body={"strength": 1, "seed": 4})
    assert edited.data[0].b64_json is not None
    drawn = server.draw("a circle", seed=4).json()["data"][0]["b64_json"]
    assert np.abs(pixels_of(edited.data[0].b64_json) - pixels_of(drawn)).max() <= 1


def test_what_a_mask_keeps_is_kept_to_the_bit(client, stripes, side):
    changes = np.zeros((side, side), bool)
    changes[: side // 2] = True
    alpha = np.dstack([stripes, np.where(changes, 0, 255).astype(np.uint8)])  # transparent: may change
    white = np.where(changes, 255, 0).astype(np.uint8)
    answers = []
    for image, mask in ((stripes, alpha), (stripes, white), (alpha, None)):
        named = {} if mask is None else {"mask": file_of(mask)}
        answer = client.images.edit(image=file_of(image), prompt="a circle", extra_body={"seed": 4}, **named)
        answers.append(pixels_of(answer.data[0].b64_json))
    assert (answers[0][~changes] == stripes[~changes]).all()
    assert np.abs(answers[0][changes] - stripes[changes]).mean() > 20
    assert (answers[0] == answers[1]).all()
    assert (answers[0] == answers[2]).all()


def test_several_pictures_and_streams(client, stripes, side):
    kept = np.full((side, side), 255, np.uint8)
    pictures = [np.dstack([p, kept]) for p in (stripes, 255 - stripes)]  # opaque everywhere: nothing may change
    answer = client.images.edit(
        image=[*map(file_of, pictures), file_of(stripes, "JPEG")], prompt="x", n=2, extra_body={"seed": 1}
    )
    assert [p.to_dict()["seed"] for p in answer.data] == [1, 2] * 3
    for i, expected in enumerate(pictures):
        assert (pixels_of(answer.data[2 * i].b64_json) == expected[..., :3]).all()  # each from its own
    assert answer.usage.input_tokens_details.image_tokens > 0
    stream = client.images.edit(image=file_of(stripes), prompt="x", stream=True, partial_images=1)
    assert [e.type for e in stream] == ["image_edit.partial_image", "image_edit.completed"]


def test_variations_need_no_prompt(client, stripes):
    answer = client.images.create_variation(image=file_of(stripes), n=2, response_format="b64_json")
    first, second = (pixels_of(p.b64_json) for p in answer.data)
    assert np.abs(first - second).max() > 10


def test_a_picture_keeps_its_shape(client, side):
    wide = np.zeros((300, 900, 3), np.uint8)
    answer = client.images.edit(image=file_of(wide), prompt="x")
    width, height = map(int, answer.size.split("x"))
    assert 2 < width / height < 4
    assert width * height < 2 * side * side


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 px in a few bytes."""
    size = (60_000).to_bytes(4, "big") * 2
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A small PNG with 64 MB of text in 64 kB."""
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26), 1))
    return BLACK[:33] + text + BLACK[33:]


BLACK = file_of(np.zeros((64, 64, 3), np.uint8)).read()
HOSTILE = {
    "no picture": ({}, {"prompt": "x"}, 400, "image"),
    "text for a picture": ({"image": b"hello"}, {"prompt": "x"}, 400, "image"),
    "half a picture": ({"image": BLACK[:60]}, {"prompt": "x"}, 400, "image"),
    "a picture bomb": ({"image": bomb()}, {"prompt": "x"}, 400, "image"),
    "a mask of another size": (
        {"image": BLACK, "mask": file_of(np.zeros((32, 64), np.uint8)).read()},
        {"prompt": "x"}, 400, "mask",
    ),
    "an unknown field": ({"image": BLACK}, {"stepz": "3"}, 400, "stepz"),
    "strength of 2": ({"image": BLACK}, {"strength": "2"}, 400, "strength"),
    "a text bomb": ({"image": text_bomb()}, {"prompt": "x"}, 400, "image"),
    "a prompt of 1 MB": ({"image": BLACK}, {"prompt": "x" * 2**20}, 400, "prompt"),
    "half a name of an adapter": ({"image": BLACK}, {"loras[a": "1"}, 400, "loras[a"),
    "a number for adapters": ({"image": BLACK}, {"loras": "1"}, 400, "loras"),
    "33 MB": ({"image": b"x" * (33 * 2**20)}, {}, 413, None),
}  # fmt: skip


@pytest.mark.parametrize(("files", "fields", "status", "param"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_picture_is_named(server, files, fields, status, param):
    answer = server.http.post(EDITS, files=files or {"other": b""}, data=fields)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == (param if files else "other")
    assert server.draw("still alive", steps=1).status_code == 200


def test_a_page_elsewhere_cannot_send_forms(server):
    answer = httpx.post(f"{server.url}{EDITS}", files={"image": b""}, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
