#!/usr/bin/env bash
# Stable Diffusion or one of its successors on your own pictures, on one GPU, in a day at most.
#
#     PICTURES=my-pictures runs/finetune.sh
#
# What may be changed: PICTURES (a folder with a .txt beside each picture, or a metadata.jsonl), BASE (a hub id, a folder, or a run of
# daybreak train), METHOD (full, lora, dora ...), LIMIT, SETTINGS, PROMPT, OUT, PORT.
set -euo pipefail
: "${PICTURES:?name your pictures, as in PICTURES=my-pictures runs/finetune.sh}"
BASE=${BASE:-stable-diffusion-v1-5/stable-diffusion-v1-5} METHOD=${METHOD:-lora} LIMIT=${LIMIT:---deadline 24h} SETTINGS=${SETTINGS:-}
PROMPT=${PROMPT:-a picture in my style} OUT=${OUT:-runs/finetune} PORT=${PORT:-8000}

# What is wrong with the pictures and captions, why that matters, what to do.
daybreak inspect "$PICTURES"

# It says first what it takes of memory. In another terminal: daybreak watch "$OUT". While it trains it measures what the pictures gain
# and what of the base is forgotten; it ends with a report against the base.
daybreak finetune "$BASE" --data "$PICTURES" --method "$METHOD" --out "$OUT/model" $LIMIT $SETTINGS

# Pictures of your own prompts, with the base's beside them by the same seed.
daybreak sample "$OUT/model" --prompt "$PROMPT" --out "$OUT/mine.png" --seed 1
daybreak sample "$BASE" --prompt "$PROMPT" --out "$OUT/base.png" --seed 1

# Which one people like better, without knowing which is which (a page; the results with --results):
#     daybreak compare-blind "$OUT/model" "$BASE" --prompts prompts.txt --voters 3 --out "$OUT/blind"

# A folder for diffusers with a model card. For ComfyUI and A1111: --to single-file.
daybreak export "$OUT/model" --out "$OUT/exported"

# A page at http://127.0.0.1:8000 and OpenAI's image API at /v1, until Ctrl-C.
exec daybreak serve "$OUT/exported" --port "$PORT"
