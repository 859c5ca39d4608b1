"""Stopping a run on SIGTERM, which schedulers send before they take a machine, and on Ctrl-C.

Importing this does not import jax, since signals may come while jax is imported.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

from alexnet_jax.runtime.errors import EXIT_PREEMPTED, Stopped

RESEND_SECONDS = 1.0
# The name and the exit code of each signal that stops a run.
STOP_SIGNALS = {signal.SIGTERM: ("SIGTERM", EXIT_PREEMPTED), signal.SIGINT: ("Ctrl-C", 0)}


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """Until there is something to save: a signal raises Stopped in the main thread.

    Python drops and prints an exception that is raised in a callback (of imports, or jax's at
    garbage collection). So the signal is sent again until it has ended this context or a
    PreemptionGuard has caught it, and the dropped exceptions are not printed.
    """
    ended = threading.Event()
    print_unraisable = sys.unraisablehook

    def send_again(number):
        if not ended.wait(RESEND_SECONDS):
            os.kill(os.getpid(), number)

    def stop(number, _):
        threading.Thread(target=send_again, args=(number,), daemon=True).start()
        name, code = STOP_SIGNALS[signal.Signals(number)]
        sentence = f"Stopped by {name} before a step was taken: the same command goes on."
        raise Stopped(sentence, code, agreed=False)

    def print_others(unraisable):
        if unraisable.exc_type is not Stopped:
            print_unraisable(unraisable)

    sys.unraisablehook = print_others
    try:
        with _handlers(stop, STOP_SIGNALS):
            yield
    finally:
        ended.set()
        sys.unraisablehook = print_unraisable


class PreemptionGuard:
    """Notes SIGTERM and Ctrl-C, and makes all processes stop at the same place.

    Use as a context manager. The second signal of a kind ends a process at once. With several
    processes jax's runtime catches SIGTERM and spreads it, if its preemption service is on; else
    no signal is noted.
    """

    def __init__(self) -> None:
        self._received: set[int] = set()
        self._sync_points = 0

    def __enter__(self) -> "PreemptionGuard":
        import jax

        self._distributed = jax.process_count() > 1
        # jax defines its options while it is imported.
        self._preemption_service = jax.config.jax_enable_preemption_service  # type: ignore[attr-defined]
        signals = tuple(STOP_SIGNALS)
        if self._distributed:
            signals = (signal.SIGINT,) if self._preemption_service else ()
        self._handlers = _handlers(self._note, signals)
        self._handlers.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._handlers.__exit__(*error)

    def reached(self) -> bool:
        """Whether to stop here; all processes call it equally often, at the same places."""
        if not self._distributed:
            return bool(self._received)
        if not self._preemption_service:
            return False
        from jax.experimental import multihost_utils

        self._sync_points += 1
        return multihost_utils.reached_preemption_sync_point(self._sync_points)

    def stopped(self, where: str) -> Stopped:
        """The exception to raise once everything is saved; all processes call it."""
        import numpy as np

        from alexnet_jax.parallel import processes

        interrupted = np.asarray(signal.SIGINT in self._received, np.int64)
        by_ctrl_c = processes.sum_over_processes(interrupted) > 0
        name, code = STOP_SIGNALS[signal.SIGINT if by_ctrl_c else signal.SIGTERM]
        return Stopped(f"Stopped by {name} {where}: the same command goes on.", code, agreed=True)

    def _note(self, number: int, _) -> None:
        self._received.add(number)
        signal.signal(number, signal.SIG_DFL)
        if number == signal.SIGINT:
            # Not by print, which may be what was interrupted.
            os.write(2, b"\nSaving after the step in flight; once more leaves at once.\n")
            if self._distributed:
                os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _handlers(handler: Callable, signals: Iterable[int]) -> Iterator[None]:
    """Install a handler of signals in this context; Python allows it in the main thread only."""
    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, former_handler in former.items():
            signal.signal(number, former_handler)
