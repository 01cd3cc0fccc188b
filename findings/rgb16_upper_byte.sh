#!/bin/sh
# Pillow 13.0.0: a 16-bit RGB PNG opens as 8-bit RGB with the upper byte of every value, without a warning, and nothing
# of the picture says so; 16-bit grey keeps all its values. A camera's 12 bits in 16 come out nearly black.
# Prints what one 12-bit ramp becomes in colour and in grey; fails where colour keeps more than the upper byte.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q pillow==13.0.0 numpy==2.4.6 pypng==0.20220715.0
"$work/env/bin/python" -W error - "$work" <<'PYTHON'
import sys

import numpy as np
import PIL
import png
from PIL import Image

ramp = np.linspace(0, 4095, 64).round().astype("uint16")
opened = {}
for name, channels in (("grey", 1), ("colour", 3)):
    path = f"{sys.argv[1]}/{name}.png"
    with open(path, "wb") as file:
        png.Writer(64, 1, bitdepth=16, greyscale=channels == 1).write(file, [np.repeat(ramp, channels).tolist()])
    with Image.open(path) as picture:
        opened[name] = np.asarray(picture).reshape(64, channels)[:, 0]
        print(f"Pillow {PIL.__version__}, {name}: mode {picture.mode}, info {picture.info},", end=" ")
        print(f"{len(np.unique(opened[name]))} of 64 values, at most {opened[name].max()}")
expected = np.array_equal(opened["grey"], ramp) and np.array_equal(opened["colour"], ramp >> 8)
sys.exit(0 if expected else "colour keeps more, or grey less: this has changed")
PYTHON
