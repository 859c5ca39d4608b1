"""What people see while a run goes on: lines, a live line at a terminal, rates and shares."""

import io
import threading
import time

import pytest

from alexnet_jax.runtime import terminal
from alexnet_jax.training import report
from alexnet_jax.training.throughput import Stopwatch


class Screen(io.StringIO):
    def isatty(self):
        return True


def shown(screen):
    """The screen's lines, after carriage returns and erasures."""
    return [line.rsplit("\r\x1b[K", 1)[-1] for line in screen.getvalue().split("\n")]


def test_a_live_line_is_overwritten_and_stays_below_what_is_said():
    screen = Screen()
    with terminal.Terminal(stream=screen) as here:
        here.info("first")
        here.live("step 1")
        here.live("step 2")
        here.info("an evaluation")
        here.live("step 3")
    assert shown(screen) == ["first", "an evaluation", "step 3", ""]


def test_without_a_terminal_every_line_is_plain():
    stream = io.StringIO()
    with terminal.Terminal(stream=stream) as here:
        here.live("step 1")
        here.live("step 2")
        here.info("an evaluation")
        assert not here.wants_redraw()
    assert stream.getvalue() == "step 1\nstep 2\nan evaluation\n"


def test_a_live_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    screen = Screen()
    with terminal.Terminal(stream=screen) as here:
        here.live("x" * 100)
    assert shown(screen) == ["x" * 19, ""]


def test_only_the_lead_process_speaks():
    screen = Screen()
    with terminal.Terminal(speaks=False, stream=screen) as here:
        here.info("a")
        here.live("b")
    assert screen.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.6, "1m00s"), (220, "3m40s"), (18430, "5h07m")]
)
def test_durations(seconds, text):
    assert terminal.duration(seconds) == text


@pytest.mark.parametrize("stream", [io.StringIO, Screen])
def test_progress_is_said_at_the_end_and_not_for_every_chunk(stream):
    screen = stream()
    progress = terminal.ProgressLine("counting", terminal.Terminal(stream=screen))
    for done in range(1, 101):
        progress(done, 100)
    lines = [line for line in shown(screen) if line]
    assert len(lines) == 1
    assert lines[0].startswith("counting: 100 of 100 images")


class Clock:
    """Time that passes only when told to."""

    now = 0.0

    def __call__(self):
        return self.now


class Result:
    """What a step gives, done when told to."""

    def __init__(self):
        self.done = threading.Event()

    def block_until_ready(self):
        assert self.done.wait(60)

    def finish(self, watch):
        ended = watch._ended
        self.done.set()
        while watch._ended == ended:
            time.sleep(0.001)


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (0, "turns: 0 of 4 turns"),
        (1, "turns: 1 of 4 turns, 30.0 s each, 1m30s left"),
        (3, "turns: 3 of 4 turns, 10.0 s each, 10s left"),
        (4, "turns: 4 of 4 turns, 7.5 s each"),
    ],
)
def test_progress_tells_rate_and_time_left(monkeypatch, done, said):
    clock, screen = Clock(), io.StringIO()
    monkeypatch.setattr(terminal.time, "perf_counter", clock)
    progress = terminal.ProgressLine("turns", terminal.Terminal(stream=screen), "turns")
    clock.now = 30.0
    progress(done, 4)
    assert screen.getvalue().strip() == said


def test_waiting_counts_while_no_step_is_running():
    clock = Clock()

    def batches():
        for _ in range(3):
            clock.now += 2
            yield "batch"

    with Stopwatch(clock) as watch:
        for _ in watch.batches(batches()):
            result = Result()
            watch.started(result)
            result.finish(watch)
            clock.now += 3
        with watch.paused():
            clock.now += 100
        # Three steps of ten images in three times five seconds, two of them waiting.
        assert watch.rates(10) == {"images_per_second": 2.0, "waiting_for_data": 6 / 15}
        clock.now += 4
        assert watch.rates(10) == {"images_per_second": 0.0, "waiting_for_data": 0.0}


def test_waiting_counts_only_from_where_the_device_ran_dry():
    clock, results = Clock(), []

    def batches():
        yield "first"
        clock.now += 1
        results[0].finish(watch)  # ends one second into a wait of four
        clock.now += 3
        yield "second"
        clock.now += 4  # the second step runs all the while
        yield "third"

    with Stopwatch(clock) as watch:
        for _ in watch.batches(batches()):
            results.append(Result())
            watch.started(results[-1])
        for result in results[1:]:
            result.done.set()
        assert watch.rates(10) == {"images_per_second": 30 / 8, "waiting_for_data": 3 / 8}


def test_steps_in_flight_are_not_part_of_a_pause():
    clock, result = Clock(), Result()
    with Stopwatch(clock) as watch:
        watch.started(result)

        def finish():
            clock.now += 7
            result.done.set()

        timer = threading.Timer(0.05, finish)  # while the pause waits for it
        timer.start()
        with watch.paused():
            assert watch._ended == 1
            clock.now += 100
        assert watch.rates(14)["images_per_second"] == 2.0


def test_a_failed_step_does_not_stop_the_watch():
    class Failed:
        def block_until_ready(self):
            raise RuntimeError("the device is gone")

    with Stopwatch() as watch:
        for _ in range(5):
            watch.started(Failed())


def test_the_end_of_a_step_and_of_a_pause_are_signs_of_life():
    signs, result = [], Result()
    with Stopwatch(alive=lambda: signs.append("alive")) as watch:
        watch.started(result)
        assert signs == []
        result.finish(watch)
        with watch.paused():
            assert len(signs) == 1
        assert len(signs) == 2


class Log:
    def __init__(self):
        self.records = []

    def write(self, record):
        self.records.append(record)


def test_a_report_has_its_numbers_in_line_and_record():
    stream, log = io.StringIO(), Log()
    telling = report.Reporter(1000, 50.0, 64, terminal.Terminal(stream=stream), log)
    means = {"loss": 1.25, "top1_error": 0.5, "top5_error": 0.1, "images": 640,
             "images_per_second": 320.0, "waiting_for_data": 0.25}  # fmt: skip
    telling.training(100, means, {"weights": 0.01})
    telling.validation(100, means, is_best=True)
    line, validation = stream.getvalue().splitlines()
    assert line == ("step 100/1,000  epoch 2.00  loss 1.2500  top-1 error 50.0%  320 images/s  "
                    "3m00s left  25% waiting for data")  # fmt: skip
    assert validation.startswith("  validation at epoch 2.00: loss 1.2500")
    assert "best so far" in validation
    assert [(r["step"], r["epoch"], r["split"]) for r in log.records] == [
        (100, 2.0, "train"), (100, 2.0, "val"),
    ]  # fmt: skip
    assert log.records[0]["learning_rate"] == {"weights": 0.01}
