#!/usr/bin/env bash
# A text-to-image model of your own from scratch, in a day on 8 to 32 GPUs: from files to a served model.
#
#     PICTURES="photos/ more.tar hf-parquet/" runs/speedrun.sh
#
# What may be changed: PICTURES (folders, tar files, parquet files), OUT, RECIPE, SIDE (px), CAPTIONER and TEXT_ENCODER (hub ids or
# folders), GPUS (of this machine), LIMIT (a deadline or a sum), SETTINGS, PORT. Several machines: `daybreak launch` writes the job.
set -euo pipefail
: "${PICTURES:?name your pictures, as in PICTURES=photos/ runs/speedrun.sh}"
OUT=${OUT:-runs/speedrun} RECIPE=${RECIPE:-speedrun2} SIDE=${SIDE:-1024} GPUS=${GPUS:-8} SETTINGS=${SETTINGS:-} PORT=${PORT:-8000}
CAPTIONER=${CAPTIONER:-Qwen/Qwen2.5-VL-3B-Instruct} TEXT_ENCODER=${TEXT_ENCODER:-google/t5gemma-2b-2b-ul2}
LIMIT=${LIMIT:---deadline 24h}

# Any pile of pictures into shards: sizes, duplicates, broken files and empty captions are dealt with, and listed by name.
daybreak prepare $PICTURES --out "$OUT/shards" --size "$SIDE"

# What is wrong with them, why that matters, what to do; with one page of pictures and figures.
daybreak inspect "$OUT/shards"

# Captions that say everything there is to see: what makes a model follow prompts. Killed, it goes on with the next shard.
daybreak caption "$OUT/shards" --model "$CAPTIONER" --name long

# The frozen text encoder's features, once for all: 44 % of the arithmetic of a step at 512 px.
daybreak embed "$OUT/shards" --model "$TEXT_ENCODER" --name text

# Before a cent is spent: speed, memory, time and cost on these GPUs.
daybreak plan "$RECIPE" $SETTINGS

# The day. Killed or out of a GPU, the same line goes on where it was; the last checkpoint and the score are there before the deadline.
torchrun --standalone --nproc-per-node "$GPUS" --max-restarts 10 -m daybreak train "$RECIPE" --data "$OUT/shards" \
    --data.embeddings text --out "$OUT/model" --resume auto $LIMIT $SETTINGS

# What it is worth, against pictures it has not seen, and by eye in $OUT/model/report.html.
daybreak status "$OUT/model"

# For others: a diffusers folder with a model card; then a page and OpenAI's image API, until Ctrl-C.
daybreak export "$OUT/model" --out "$OUT/exported"
exec daybreak serve "$OUT/exported" --port "$PORT"
