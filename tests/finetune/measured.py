"""What a step of fine-tuning takes of memory, measured: bytes alive by torch's own allocator, on a CPU."""

import math
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from daybreak.finetune.memory import Plan
from daybreak.finetune.opening import open_data, open_trainee, plan_of
from daybreak.finetune.prepared import open_prepared
from daybreak.finetune.settings import FinetuneSettings
from daybreak.parallel import Ranks
from daybreak.train.stage import Stage
from daybreak.train.step import Step, clip_and_step


def measured_step(base: Path, pictures: Path, out: Path, **changes) -> tuple[Plan, int]:
    """The plan of a run, and the most bytes alive during its second step, its cache aside, which lies in files."""
    told = {"batch": 4, "ema": 0.9, "sample_steps": 1, "general_prompts": ("a dog",), "drop_captions": 0.0}
    settings = FinetuneSettings(base=str(base), data=str(pictures), **(told | changes))
    prepared = open_prepared(settings, torch.device("cpu"))
    plan = plan_of(prepared)
    run = open_trainee(prepared, plan, open_data(prepared)[:2], out, Ranks(), lambda *_: None)
    run.prepare()
    stage, taking = Stage(run, 0, Ranks()), Step(run, Ranks(), print)

    def step():
        taking.backward(next(stage.batches), run.config, 0.0, watched=False)
        clip_and_step(run.parameters(), run.optimizers, settings.clip_norm, 1.0, math.isfinite, run.scaler)
        run.update_averages()
        run.step += 1

    step()  # after which the optimiser has its moments
    moments = [t for o in run.optimizers for s in o.state.values() for t in s.values() if torch.is_tensor(t)]
    networks = [t for part in prepared.family.parts() for t in (*part.parameters(), *part.buffers())]
    there = [*networks, *moments, *prepared.averages.tensors.values()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in there}
    return plan, sum(storages.values()) + most_beyond(step)


def most_beyond(work) -> int:
    """Bytes that `work` has allocated at the most, beyond what there was."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    level = most = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            most = max(most, level)
    return most
