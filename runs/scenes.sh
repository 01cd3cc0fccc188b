#!/usr/bin/env bash
# From nothing to a served model, on a laptop: ten minutes, no download, no GPU.
#
#     runs/scenes.sh
#
# What may be changed: OUT (where it all goes), LIMIT (of the training), SETTINGS (any setting of the recipe, such as
# "--model.width 64"), PORT (of the server).
set -euo pipefail
OUT=${OUT:-runs/scenes} LIMIT=${LIMIT:---budget 8min} SETTINGS=${SETTINGS:-} PORT=${PORT:-8000}

# What will happen: parameters, arithmetic, memory, time.
daybreak plan scenes-demo

# A small model of coloured shapes, from random weights. In another terminal: daybreak watch "$OUT"
# It draws the same prompts again and again, and ends with a score: which share of prompts it follows.
daybreak train scenes-demo --out "$OUT/model" $LIMIT $SETTINGS

# Pictures of your own prompts. What a short prompt leaves open is written out first; --expand none takes it as it stands.
daybreak sample "$OUT/model" --prompt "a large red circle above a small blue square" --prompt "three small rings" --out "$OUT/mine.png"

# The score again, with its interval, from the stored weights.
daybreak evaluate "$OUT/model"

# A folder that plain diffusers opens, with a model card.
daybreak export "$OUT/model" --out "$OUT/exported" --license apache-2.0

# A page at http://127.0.0.1:8000 and OpenAI's image API at /v1, until Ctrl-C.
exec daybreak serve "$OUT/exported" --port "$PORT"
