"""Kinds of base beside those of families.py, one a file."""

from __future__ import annotations

from daybreak.finetune.families import Family
from daybreak.finetune.family.chroma import Chroma
from daybreak.finetune.family.flux2 import Flux2Klein
from daybreak.finetune.family.own import Own
from daybreak.finetune.family.z_image import ZImage
from daybreak.model_folder import PIPELINE

MORE_FAMILIES: dict[str, type[Family]] = {
    "Flux2KleinPipeline": Flux2Klein,
    "ZImagePipeline": ZImage,
    "ChromaPipeline": Chroma,
    PIPELINE: Own,
}
"""By the class of the pipeline."""
