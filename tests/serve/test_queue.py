"""The line and the worker, with a real model."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from daybreak.serve.jobs import Done, Failed, Job, Order, Start, preview_steps
from daybreak.serve.native import NativeModel
from daybreak.serve.queue import PATIENCE, JobQueue, QueueFullError
from daybreak.serve.settings import ServeSettings
from daybreak.serve.worker import Worker
from tests.waiting import LONG, wait_until

ORDER = Order("a red circle", "", 32, 32, steps=4, guidance=2.0, seed=1)


def job(events: list | None = None, seconds: float = 60, **changes) -> Job:
    tell = (lambda _: None) if events is None else events.append
    return Job(replace(ORDER, **changes), tell, time.monotonic() + seconds)


def by_size(order: Order) -> tuple[int, int]:
    return order.height, order.width


@pytest.fixture(scope="module")
def model(finished_run) -> NativeModel:
    return NativeModel("tiny", finished_run, ServeSettings(), torch.device("cpu"))


def run_to_end(worker: Worker) -> None:
    worker.queue.close()
    worker.start()
    worker.join(LONG)
    assert not worker.is_alive()


def test_all_or_none_of_a_request_gets_in_line():
    queue = JobQueue(4, by_size)
    queue.put([job(), job(), job()])
    with pytest.raises(QueueFullError):
        queue.put([job(), job()])
    assert len(queue) == 3
    queue.put([job()])
    queue.close()
    with pytest.raises(QueueFullError):
        queue.put([])


def test_those_who_left_make_room():
    queue = JobQueue(2, by_size)
    leaving = [job(), job()]
    queue.put(leaving)
    for j in leaving:
        j.cancelled = True
    queue.put([job(), job()])
    assert len(queue) == 2


def test_a_first_one_that_leaves_while_it_waits_for_companions_ends_nothing():
    """No job at all is what a closed line gives, and the worker's end."""
    queue, leaving, staying = JobQueue(9, by_size), job(), job(seed=2)
    queue.put([leaving])

    def leave() -> None:
        leaving.cancelled = True
        queue.put([])
        time.sleep(0.4)  # beyond the wait for companions
        queue.put([staying])

    thread = threading.Timer(0.05, leave)
    thread.start()
    assert queue.first(4, 0.2) == [staying]
    thread.join()


def test_companions_are_of_one_shape_in_order_of_arrival():
    queue = JobQueue(9, by_size)
    small, large = [job(seed=i) for i in range(3)], [job(width=64), job(width=64)]
    queue.put([small[0], large[0], small[1], large[1], small[2]])
    assert queue.first(2, 0) == small[:2]
    assert queue.more(5, (32, 64)) == large
    assert queue.first(9, 0) == small[2:]


def test_nobody_is_passed_for_ever():
    queue = JobQueue(9, by_size)
    waiting = job(width=64)
    waiting.arrived -= PATIENCE + 1
    queue.put([waiting, job()])
    assert queue.more(5, (32, 32)) == []
    assert queue.first(5, 0) == [waiting]


def test_a_first_picture_waits_a_moment_for_companions():
    queue = JobQueue(9, by_size)
    queue.put([job()])
    later = threading.Timer(0.05, lambda: queue.put([job(), job()]))
    later.start()
    assert len(queue.first(3, wait=5.0)) == 3
    later.join()


def test_who_waited_too_long_is_told(model):
    events: list = []
    worker = Worker(model, ServeSettings())
    worker.queue.put([job(events, seconds=-1), job(events)])
    run_to_end(worker)
    assert [type(e) for e in events] == [Failed, Done]
    assert events[0].timed_out


def test_rows_with_their_own_steps_and_guidance_share_a_batch(model):
    orders = [
        {"steps": 3, "guidance": 1.0},
        {"steps": 5, "guidance": 2.0},
        {"steps": 4, "guidance": 3.0, "prompt": "b"},
    ]
    alone = []
    for changes in orders:
        events: list = []
        worker = Worker(model, ServeSettings())
        worker.queue.put([job(events, **changes)])
        run_to_end(worker)
        alone.append(events[-1].pixels.astype(int))
    steps, together = [], [[], [], []]
    worker = Worker(model, ServeSettings(), stepped=lambda rows, _seconds: steps.append(rows))
    worker.queue.put([job(e, **changes) for e, changes in zip(together, orders, strict=True)])
    run_to_end(worker)
    assert steps == [3, 3, 3, 2, 1]  # five steps in all, not twelve
    for one, several in zip(alone, together, strict=True):
        assert abs(one - several[-1].pixels).max() <= 1


def test_a_model_that_fails_loses_its_batch_and_goes_on(finished_run):
    broken = NativeModel("broken", finished_run, ServeSettings(), torch.device("cpu"))
    weights = broken._transformer.final.weight.data
    worker = Worker(broken, ServeSettings())
    worker.start()
    assert worker.ready.wait(LONG)
    broken._transformer.final.weight.data = weights[:, :3]
    first: list = []
    worker.queue.put([job(first)])
    wait_until(lambda: first, "the batch to fail")
    broken._transformer.final.weight.data = weights
    second: list = []
    worker.queue.put([job(second)])
    worker.queue.close()
    worker.join(LONG)
    assert isinstance(first[0], Failed)
    assert isinstance(second[0], Done)


def test_preview_steps_are_spread_and_leave_out_the_last():
    assert preview_steps(replace(ORDER, steps=24), 2) == {8, 16}
    assert preview_steps(replace(ORDER, steps=4), 100) == {1, 2, 3}
    assert preview_steps(replace(ORDER, steps=1), 3) == frozenset()
    half = Start(np.zeros((32, 32, 3), np.uint8), None, strength=0.5)
    assert preview_steps(replace(ORDER, steps=24, start=half), 1) == {18}
