"""Ends a process whose training makes no progress, and prints the stacks of its threads."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from alexnet_jax.runtime.errors import EXIT_STUCK

STDERR = 2  # the file descriptor: sys.stderr may be replaced
GRACE_SECONDS = 60.0  # after which a process that can't run Python any more is ended too


class Watchdog:
    """Ends the process when `alive` was not called for `minutes`; with 0 never.

    Call it for every step or evaluation batch that the device has finished, and every save and the
    like that the host has. `end` is called, in a thread of its own, with a sentence; by default it
    prints that and the stacks of all threads, and ends the process with EXIT_STUCK. Where a thread
    holds Python's lock, so that no other can run, faulthandler prints the stacks and ends the
    process with code 1 GRACE_SECONDS later. Time in which the process is stopped (SIGSTOP) counts
    too.

    Use as a context manager.
    """

    def __init__(
        self,
        minutes: float,
        end: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._minutes, self._seconds = minutes, 60 * minutes
        self._end, self._clock = end or _end_process, clock
        self._last_progress = clock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self.alive()
        if self._minutes > 0:
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self._minutes > 0:
            self._closing.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def alive(self) -> None:
        """Report progress."""
        self._last_progress = self._clock()

    def _watch(self) -> None:
        while True:
            # Armed anew in each turn: it ends the process if there is no further turn.
            faulthandler.dump_traceback_later(self._seconds + GRACE_SECONDS, exit=True, file=STDERR)
            if self._closing.wait(self._seconds / 60):
                return
            if self._clock() - self._last_progress > self._seconds:
                self._end(
                    f"No step, evaluation batch or save has ended for {self._minutes:g} minutes: "
                    "the stacks below say what each thread waits for. The same command goes on "
                    "from the last checkpoint; if one of these rightly takes so long, give it more "
                    "with --config.guards.watchdog_minutes (0: for ever)."
                )
                return


def _end_process(sentence: str) -> None:
    """Print it and end at once: the main thread may hang, and hold a lock of its output."""
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(file=STDERR, all_threads=True)
    os._exit(EXIT_STUCK)
