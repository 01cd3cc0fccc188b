"""Deep pictures come out at their stated range, or are refused with the reason: never black in silence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from daybreak.data.pictures import PictureError, decode, open_square

WHITE = (255, 255, 255)
RAMP = np.tile(np.linspace(0, 1, 64), (64, 1))


def tiff(values: np.ndarray, **tags) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[int(tag[1:])] = value
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo=info)
    return buffer.getvalue()


def png16(values: np.ndarray, significant: int | None = None, colours: int = 1) -> bytes:
    """A 16-bit PNG, written by hand since Pillow writes no such RGB. colours: channels, as PNG counts them."""
    height, width = values.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(height, -1))
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[colours], 0, 0, 0)
    stated = chunk(b"sBIT", bytes([significant] * colours)) if significant else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + stated + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def tiff_rgb16(values: np.ndarray, order: str = "<", deflated: bool = False, **tags) -> bytes:
    """A 16-bit RGB TIFF [H, W, 3], written by hand since Pillow writes no such one."""
    height, width = values.shape[:2]
    data = values.astype(order + "u2").tobytes()
    data, compression = (zlib.compress(data), 8) if deflated else (data, 1)
    entries = {
        256: width,
        257: height,
        258: (16, 16, 16),
        259: compression,
        262: 2,
        273: 0,
        277: 3,
        278: height,
        279: len(data),
    }
    entries |= {int(tag[1:]): value for tag, value in tags.items()}
    body, at = b"", 8 + 2 + 12 * len(entries) + 4
    fields = []
    for tag, value in sorted(entries.items()):
        many = value if isinstance(value, tuple) else (value,)
        kind, code = (3, "H") if max(many) < 65536 and tag != 273 else (4, "I")
        packed = struct.pack(f"{order}{len(many)}{code}", *many)
        if len(packed) > 4:
            body, packed = body + packed, struct.pack(f"{order}I", at + len(body))
        fields.append((tag, kind, len(many), packed.ljust(4, b"\0")))
    start = struct.pack(f"{order}I", at + len(body))
    listed = b"".join(
        struct.pack(f"{order}HHI", tag, kind, n) + (start if tag == 273 else value) for tag, kind, n, value in fields
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(fields))
    return head + listed + b"\0" * 4 + body + data


def in_colour(values: np.ndarray) -> np.ndarray:
    return np.stack([values, values[:, ::-1], values // 2], -1)


@pytest.mark.parametrize(
    ("make", "high"),
    [
        (lambda v: png16(v, 12, colours=3), 4095),
        (lambda v: png16(v, 14, colours=3), 16383),
        (lambda v: png16(v, 8, colours=3), 255),  # whose upper bytes are all 0
        (lambda v: png16(v, colours=3), 65535),
        (lambda v: png16(v * 16 + v // 256, 12, colours=3), 4095),  # filling the range, as PNG would have it
        (lambda v: tiff_rgb16(v, t281=(4095,) * 3), 4095),
        (lambda v: tiff_rgb16(v, ">", t281=(4095,) * 3), 4095),
        (lambda v: tiff_rgb16(v, deflated=True, t281=(4095,) * 3), 4095),
        (lambda v: tiff_rgb16(v, ">", deflated=True, t341=(1023,) * 3), 1023),
        (lambda v: tiff_rgb16(v, t281=(65535,) * 3), 65535),
        (lambda v: tiff_rgb16(v), 65535),
    ],
)
def test_colours_come_out_at_their_stated_range(make, high):
    values = in_colour(whole(high, "uint16"))
    found = np.asarray(decode(make(values), WHITE).image).astype(int)
    assert np.abs(found - values / high * 255).max() <= 1


def test_transparency_is_scaled_as_the_colours_are():
    values = in_colour(whole(4095, "uint16"))
    expected = values / 4095 * 255
    for alpha, opaque in ((4095, True), (65535, True), (0, False)):
        rgba = np.concatenate([values, np.full((64, 64, 1), alpha, "uint16")], -1)
        found = np.asarray(decode(png16(rgba, 12, colours=4), WHITE).image).astype(int)
        assert np.abs(found - (expected if opaque else 255)).max() <= 1
    grey = np.stack([values[..., 0], np.full((64, 64), 4095, "uint16")], -1)
    assert np.abs(pixels(png16(grey, 12, colours=2)) - expected[..., 0]).max() <= 1


def test_a_dark_picture_whose_upper_bits_are_the_stated_ones_stays_dark():
    dark = whole(200, "uint16")
    for data in (png16(dark * 16, 12), png16(in_colour(dark) * 16, 12, colours=3)):
        assert 10 < pixels(data).max() < 14


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode(data, WHITE).image)[:, :, 0].astype(int)


def whole(scale: float, kind: str) -> np.ndarray:
    return np.rint(RAMP * scale).astype(kind)


@pytest.mark.parametrize(
    "data",
    [
        lambda: png16(whole(65535, "uint16")),
        lambda: png16(whole(4095, "uint16"), significant=12),
        lambda: png16(whole(65535, "uint16"), significant=12),
        lambda: png16(np.stack([whole(65535, "uint16")] * 3, -1), colours=3),
        lambda: tiff(whole(65535, "uint16")),
        lambda: tiff(whole(4095, "uint16"), t281=4095),
        lambda: tiff(whole(1023, "uint16"), t281=1023),
        lambda: tiff(RAMP.astype("float32")),
        lambda: tiff((RAMP * 300 - 20).astype("float32"), t340=-20.0, t341=280.0),
        lambda: tiff(whole(2**20, "int32"), t341=2**20),
    ],
)
def test_the_stated_range_becomes_black_to_white(data):
    assert np.abs(pixels(data()) - np.rint(RAMP * 255)).max() <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: png16(whole(4095, "uint16")), "brightest value is 4095 of 65535.*12 bits or fewer"),
        (lambda: tiff(whole(1023, "uint16")), "brightest value is 1023 of 65535"),
        (
            lambda: png16(in_colour(whole(4095, "uint16")), colours=3),
            "brightest value is 4095 of 65535.*12 bits or fewer",
        ),
        (lambda: png16(in_colour(whole(255, "uint16")), colours=3), "brightest value is 255 of 65535"),
        (lambda: tiff_rgb16(in_colour(whole(1023, "uint16"))), "brightest value is 1023 of 65535"),
        (lambda: tiff((RAMP * 255).astype("float32")), "from 0 to 255 that does not state its range"),
        (lambda: tiff((RAMP - 0.5).astype("float32")), "floating-point picture from -0.5"),
        (lambda: tiff(np.full((8, 8), np.nan, "float32")), "no numbers"),
        (lambda: tiff(whole(2**20, "int32")), "32-bit picture from 0 to 1.04858e.06 that does not state its range"),
    ],
)
def test_what_states_no_range_is_refused(data, message):
    with pytest.raises(PictureError, match=message):
        decode(data(), WHITE)


def test_a_black_picture_is_black():
    assert pixels(png16(np.zeros((8, 8), "uint16"))).max() == 0
    for significant in (None, 12):
        assert pixels(png16(np.zeros((8, 8, 3), "uint16"), significant, colours=3)).max() == 0


TURNS = {1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
         7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("value", TURNS)
def test_pictures_are_turned_upright_once(kind, value):
    """TURNS: how a camera that is held so stores the upright picture."""
    upright = Image.new("RGB", (96, 64), "white")
    upright.paste((255, 0, 0), (0, 0, 48, 32))
    upright.paste((0, 0, 255), (0, 32, 48, 64))
    turn = TURNS[value]
    stored = upright if turn is None else upright.transpose(getattr(Image.Transpose, turn))
    exif = Image.Exif()
    exif[0x0112] = value
    buffer = io.BytesIO()
    stored.save(buffer, kind, exif=exif, quality=95)
    found = decode(buffer.getvalue(), WHITE)
    assert (found.width, found.height) == found.image.size == (96, 64)
    seen = np.asarray(found.image).astype(int)
    for (y, x), colour in {(16, 24): (255, 0, 0), (48, 24): (0, 0, 255), (16, 72): WHITE}.items():
        assert np.abs(seen[y, x] - colour).max() < 30
    assert any("turned upright" in n for n in found.notes) == (value != 1)


@pytest.mark.parametrize("side", [32, 48, 64])
def test_the_same_pixels_as_jpeg_and_png_look_the_same(side):
    rng = np.random.default_rng(0)
    fine = sum(
        np.asarray(Image.fromarray(rng.integers(0, 255, (n, n), dtype=np.uint8)).resize((512, 512)), dtype=float)
        for n in (8, 32, 128, 512)
    )
    whole = Image.fromarray((fine / 4).astype(np.uint8)).convert("RGB")
    files = {}
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        whole.save(buffer, kind, quality=98)
        files[kind] = open_square(buffer.getvalue(), side, WHITE).astype(int)
    assert np.abs(files["PNG"] - files["JPEG"]).mean() < 1.5
