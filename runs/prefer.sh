#!/usr/bin/env bash
# A trained model made better by what a judge, or people, say of its own pictures: eight minutes on a laptop, no download, no GPU.
#
#     RUN=runs/scenes/model runs/prefer.sh
#
# What may be changed: RUN (a run of the embedded world, best in the middle of its learning: daybreak train scenes-demo --train.minutes 2),
# LIMIT (until everything is done, report and all), SETTINGS (of daybreak prefer), PROMPT, OUT, PORT.
set -euo pipefail
: "${RUN:?name a trained run, as in RUN=runs/scenes/model runs/prefer.sh}"
LIMIT=${LIMIT:---deadline 8min} SETTINGS=${SETTINGS:-} PROMPT=${PROMPT:-a large red circle} OUT=${OUT:-runs/prefer} PORT=${PORT:-8000}

# It draws eight pictures of each of eight prompts, again and again, the judge scores them, and what led to better ones than others of the
# prompt becomes likelier. Prompts are taken as they stand. The report tells before and after by other judges too, since a model that
# pleases one may please nobody else. In another terminal: daybreak watch "$OUT"
daybreak prefer "$RUN" --judge scenes --online --method text --expand none --guidance 1 --kl 0 --pictures 8 --batch 8 \
    --out "$OUT/preferred" $LIMIT $SETTINGS

# The same prompt from the same noise, before and after.
daybreak sample "$RUN" --prompt "$PROMPT" --expand none --out "$OUT/before.png" --seed 1
daybreak sample "$OUT/preferred" --prompt "$PROMPT" --expand none --out "$OUT/after.png" --seed 1

# Which one people like better, and then what people prefer in place of the judge:
#     daybreak compare-blind "$OUT/preferred" "$RUN" --prompts prompts.txt --out "$OUT/blind"
#     daybreak prefer "$RUN" --votes "$OUT/blind" --out "$OUT/by-votes"

# A page at http://127.0.0.1:8000 and OpenAI's image API at /v1, until Ctrl-C.
exec daybreak serve "$OUT/preferred" --port "$PORT"
