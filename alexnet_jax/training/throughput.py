"""How fast training goes, and for what share of the time the device has nothing to do."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import jax

IN_FLIGHT = 2  # steps the host may be ahead of the device, so that batches do not pile up


class Stopwatch:
    """Images a second and the share of time in which the device waited for data.

    A thread notes when the device ends each step; the host never waits for it but to stay at most
    IN_FLIGHT steps ahead. Time within `paused` does not count. `alive` is called at the end of each
    step and of each pause.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock, self._alive = clock, alive
        self._since = clock()
        self._paused = self._waited = 0.0
        self._running: queue.Queue[jax.Array | None] = queue.Queue(maxsize=IN_FLIGHT - 1)
        self._started = self._ended = self._taken = 0
        self._idle_since = self._since
        self._thread = threading.Thread(target=self._note_ends, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, error, *_) -> None:
        if error is None:  # else the device may never answer again
            self._running.put(None)
            self._thread.join()

    def batches(self, batches: Iterable) -> Iterator:
        """The same batches; time until one comes counts as waiting while no step is running."""
        batches = iter(batches)
        while True:
            asked = self._clock()
            batch = next(batches, None)
            if batch is None:
                return
            if self._ended == self._started:
                self._waited += self._clock() - max(asked, self._idle_since)
            yield batch

    def started(self, result: jax.Array) -> None:
        """A step was dispatched that gives `result`; returns when few enough are in flight."""
        self._started += 1
        self._running.put(result)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While the loop does something else, such as an evaluation; waits for steps in flight."""
        self._running.join()
        began = self._clock()
        yield
        self._alive()
        self._paused += self._clock() - began

    def rates(self, batch: int) -> dict[str, float]:
        """Images a second and share of time waiting for data, since the last call."""
        self._running.join()
        images = (self._started - self._taken) * batch
        now = self._clock()
        seconds = max(now - self._since - self._paused, 1e-9)
        waiting = min(1.0, self._waited / seconds)
        self._since, self._paused, self._waited = now, 0.0, 0.0
        self._taken = self._started
        return {"images_per_second": images / seconds, "waiting_for_data": waiting}

    def _note_ends(self) -> None:
        while (result := self._running.get()) is not None:
            # A failed step fails again where its results are used, in the loop itself.
            with contextlib.suppress(Exception):
                result.block_until_ready()
            self._idle_since = self._clock()
            self._ended += 1
            self._alive()
            self._running.task_done()
