"""A process in which training stands still ends itself, and its last words name the place."""

import signal
import threading

import pytest

from alexnet_jax.runtime.errors import EXIT_PEER_LOST, EXIT_STUCK
from alexnet_jax.runtime.watchdog import Watchdog
from alexnet_jax.training.loop import train_and_evaluate
from tests.parallel.test_lost_processes import MAIN, Processes
from tests.training.test_plan import load

SHORT = "--config.guards.watchdog_minutes=0.2"
SENTENCE = "error: No step, evaluation batch or save has ended for 0.2 minutes: "
# Training calls `stuck` where it asks for the batch of step 30.
IN_STEP_30 = """
from alexnet_jax.data import stream
whole = stream.record_ids
def record_ids(num_records, *, step, **rest):
    if step == 30:
        stuck()
    return whole(num_records, step=step, **rest)
stream.record_ids = record_ids
"""
# It waits for a batch that never comes.
NO_BATCH = (
    """
import threading
def never_read(): threading.Event().wait()
stuck = never_read
"""
    + IN_STEP_30
)
# The second evaluation does.
NO_EVALUATION = """
import threading
from alexnet_jax.training.evaluation import Evaluator
whole, calls = Evaluator._batches, []
def never_evaluated(): threading.Event().wait()
def _batches(self, parameters):
    calls.append(1)
    for number, batch in enumerate(whole(self, parameters)):
        if len(calls) == 2 and number == 3:
            never_evaluated()
        yield batch
Evaluator._batches = _batches
"""
# A library keeps Python's lock, so that the watchdog's own thread can't run.
NO_LOCK = (
    """
import ctypes
from alexnet_jax.runtime import watchdog
watchdog.GRACE_SECONDS = 5
def never_let_go(): ctypes.PyDLL(None).sleep(1000)
stuck = never_let_go
"""
    + IN_STEP_30
)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_it_ends_the_process_without_progress():
    clock, printed, ended = Clock(), [], threading.Event()

    def end(sentence):
        printed.append(sentence)
        ended.set()

    with Watchdog(0.01, end, clock) as watchdog:
        for now in (0.5, 1.0, 1.5):  # its thread looks every 0.01 s
            clock.now = now
            watchdog.alive()
            assert not ended.wait(0.05)
        clock.now += 0.59
        assert not ended.wait(0.05)
        clock.now += 0.02
        assert ended.wait(60)
    assert len(printed) == 1
    assert "has ended for 0.01 minutes" in printed[0]
    assert "--config.guards.watchdog_minutes" in printed[0]


def test_it_is_silent_after_its_work_and_where_it_is_off():
    clock, printed = Clock(), []
    with Watchdog(0.001, printed.append, clock):
        pass
    with Watchdog(0, printed.append, clock):
        clock.now = 1e9
    assert printed == []
    assert "watchdog" not in [thread.name for thread in threading.enumerate()]


def test_each_batch_of_an_evaluation_counts_as_progress(tmp_path, monkeypatch):
    signs = []
    monkeypatch.setattr(Watchdog, "alive", lambda self: signs.append("alive"))
    config = load("lenet5", "smoke")
    config.num_steps = 1
    train_and_evaluate(config, tmp_path)
    assert len(signs) >= 359 // config.batch_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "place"), [(NO_BATCH, "never_read"), (NO_EVALUATION, "never_evaluated")]
)
def test_a_hanging_run_ends_and_names_the_place(tmp_path, program, place):
    options = ["--config.evaluate.every_steps=20"]
    with Processes(tmp_path, 1, [SHORT, *options], programs={0: program + MAIN}) as processes:
        assert processes.end(0) == EXIT_STUCK, processes.output(0)
        printed = processes.output(0)
    assert SENTENCE in printed
    assert f"in {place}" in printed.split(SENTENCE)[1]
    assert "step 20/" in printed


@pytest.mark.slow
def test_a_run_ends_even_where_a_library_keeps_pythons_lock(tmp_path):
    with Processes(tmp_path, 1, [SHORT], programs={0: NO_LOCK + MAIN}) as processes:
        assert processes.end(0) == 1, processes.output(0)
        printed = processes.output(0)
    assert "Timeout" in printed
    assert "in never_let_go" in printed


@pytest.mark.slow
def test_when_one_of_two_processes_hangs_both_end(tmp_path):
    with Processes(tmp_path, 2, [SHORT], programs={1: NO_BATCH + MAIN}) as processes:
        codes = [processes.end(rank) for rank in range(2)]
        printed = [processes.output(rank) for rank in range(2)]
    # Both stand still; the one that ends first may be missed by the other before it barks too.
    assert EXIT_STUCK in codes
    assert set(codes) <= {EXIT_STUCK, EXIT_PEER_LOST, -signal.SIGABRT}, printed
    assert any(SENTENCE in text for text in printed)
