"""Contestants that take turns, so that a machine that slows down slows down for all of them."""

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

SAMPLE_SECONDS = 0.05  # short work is repeated for so long before the device is waited for
LONGEST_SAMPLE = 100  # repetitions
# After the others' turns a step is slow at first. Beside PyTorch on two cores net 148's took 1,089
# ms with one left out, 861 with two and 854 with four.
WARMING = 2

# Does its work so many times, then waits for the device.
Contestant = Callable[[int], None]


def take_turns(
    contestants: Mapping[str, Contestant],
    samples: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[float]]:
    """Seconds of one repetition of each contestant, a sample in each of so many turns.

    What each does first, compilation included, does not count, nor do the first repetitions of a
    turn, WARMING of them. `report` gets the turns that are done and all of them.
    """
    repetitions = {name: _repetitions(work) for name, work in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(samples):
        for name, work in contestants.items():
            work(WARMING)
            seconds[name].append(_timed(work, repetitions[name]))
        report(turn + 1, samples)
    return seconds


def summarize_seconds(seconds: list[float]) -> dict:
    """Median, least, quartiles and all of them."""
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return {
        "median": median,
        "least": min(seconds),
        "quartiles": [low, high],
        "seconds": seconds,
    }


def _repetitions(work: Contestant) -> int:
    """How often the work is done in a sample."""
    work(1)
    repetitions = SAMPLE_SECONDS / max(_timed(work, 1), 1e-9)
    return min(max(1, math.ceil(repetitions)), LONGEST_SAMPLE)


def _timed(work: Contestant, repetitions: int) -> float:
    began = time.perf_counter()
    work(repetitions)
    return (time.perf_counter() - began) / repetitions
