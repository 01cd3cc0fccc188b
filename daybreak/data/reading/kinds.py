"""What a file is, by its name; and of pictures that are not read, with which package or tool they would be."""

from __future__ import annotations

from typing import Literal

from daybreak.data.pictures import PICTURE_SUFFIXES

Kind = Literal["picture", "tar", "parquet", "arrow", "table", "text", "json", "unread", "other"]
TEXT_SUFFIXES = (".txt", ".caption", ".cap", ".text")
"""Of captions, in the order in which they are looked for."""
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_RAW = "a camera's raw file: develop it to JPEG or TIFF (the package rawpy reads it)"
_VIDEO = "a video: take pictures out of it (ffmpeg)"
UNREAD = {
    ".jxl": "JPEG XL: pip install pillow-jxl-plugin, and it is read",
    **dict.fromkeys((".jp2", ".j2k", ".j2c", ".jpx", ".jpf"), "JPEG 2000: this Pillow was built without it"),
    **dict.fromkeys((".psd", ".psb"), "a Photoshop file: save it as PNG or TIFF (the package psd-tools reads it)"),
    ".svg": "a drawing without pixels: render it as PNG (the package cairosvg does)",
    ".svgz": "a drawing without pixels: render it as PNG (the package cairosvg does)",
    **dict.fromkeys((".ai", ".eps", ".pdf"), "a page and no picture: render it as PNG"),
    **dict.fromkeys((".exr", ".hdr"), "a picture without a highest brightness: save it as PNG (OpenCV reads it)"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"), _RAW),
    **dict.fromkeys((".xcf", ".kra", ".clip", ".afphoto"), "a painting program's own file: save it as PNG"),
    **dict.fromkeys((".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v"), _VIDEO),
    **dict.fromkeys((".npy", ".npz"), "an array and no picture: save it as PNG"),
    **dict.fromkeys(
        (".tga", ".dds", ".pcx", ".ico", ".icns", ".pfm", ".qoi"), "of a kind that is not read: save it as PNG"
    ),
}


def suffix(name: str) -> str:
    """What follows the last dot, with it, in small letters; empty where there is none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return f".{last.lower()}" if dot and stem else ""


def kind_of(name: str) -> Kind:
    """What a file is by its name."""
    lower, end = name.lower(), suffix(name)
    if end in PICTURE_SUFFIXES:
        return "picture"
    if lower.endswith(TAR_SUFFIXES):
        return "tar"
    if end in UNREAD:
        return "unread"
    if end in TEXT_SUFFIXES:
        return "text"
    kinds: dict[str, Kind] = {".parquet": "parquet", ".arrow": "arrow", ".csv": "table", ".tsv": "table",
                              ".jsonl": "table", ".json": "json"}  # fmt: skip
    return kinds.get(end, "other")
