#!/bin/sh
# diffusers 0.42.1: FlowMatchEulerDiscreteScheduler(shift=3) shifts the end of its schedule twice, as its least time is
# shifted already when set_timesteps shifts all of them; told set_shift(3) later, it shifts once. So two schedulers of
# the same shift draw at other times, and as many steps as there are training times do not visit these.
# Prints both schedules, and how far 1000 steps are from the 1000 training times; fails where the two agree.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 diffusers==0.42.1
"$work/env/bin/python" - <<'PYTHON'
import sys

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler

built = FlowMatchEulerDiscreteScheduler(shift=3.0)
told = FlowMatchEulerDiscreteScheduler()
told.set_shift(3.0)
lasts = []
training = built.sigmas  # of every training time, shifted once
print(f"diffusers {diffusers.__version__}, sigmas of 4 steps:")
for name, scheduler in (("shift=3", built), ("set_shift(3)", told)):
    scheduler.set_timesteps(4)
    print(f"{name}: {[round(s, 4) for s in scheduler.sigmas.tolist()]}", end=", ")
    lasts.append(scheduler.sigmas[-2].item())
    scheduler.set_timesteps(1000)
    apart = (scheduler.sigmas[:-1] - training).abs().max().item()
    print(f"1000 steps are up to {apart:.4f} from the 1000 training times")
sys.exit(0 if abs(lasts[0] / lasts[1] - 3) < 0.1 else "the last times do not differ by the shift: this has changed")
PYTHON
