"""SIGTERM, which schedulers send before they take a machine, and Ctrl-C: how a run is asked to end.

Importing this does not import jax, since signals may come while jax is imported.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from alexnet_jax.runtime.errors import EXIT_PREEMPTED, Stopped

AGAIN_SECONDS = 1.0
ASKING = {signal.SIGTERM: ("SIGTERM", EXIT_PREEMPTED), signal.SIGINT: ("Ctrl-C", 0)}


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Before there is anything to save: a signal raises Stopped in the main thread.

    Python drops an exception that comes in a callback (imports, jax's at garbage collection) and
    prints it. So the signal is sent again until it has ended this context, or a Notice has it,
    and what was dropped on the way is not printed.
    """
    left = threading.Event()
    printed = sys.unraisablehook

    def send_again(number):
        if not left.wait(AGAIN_SECONDS):
            os.kill(os.getpid(), number)

    def leave(number, _):
        threading.Thread(target=send_again, args=(number,), daemon=True).start()
        name, code = ASKING[number]
        sentence = f"Stopped by {name} before a step was taken: the same command goes on."
        raise Stopped(sentence, code, agreed=False)

    def dropped(what):
        if what.exc_type is not Stopped:
            printed(what)

    sys.unraisablehook = dropped
    try:
        with _handling(leave, *ASKING):
            yield
    finally:
        left.set()
        sys.unraisablehook = printed


class PreemptionGuard:
    """Whether SIGTERM or Ctrl-C has come, agreed on by all processes; use as a context manager.

    The second signal of a kind ends a process at once. But with several processes jax's runtime
    catches SIGTERM and spreads it, if its preemption service is on; else nothing is noticed.
    """

    def __init__(self):
        self._came: set[signal.Signals] = set()
        self._asked = 0

    def __enter__(self) -> "PreemptionGuard":
        import jax

        self._several = jax.process_count() > 1
        self._spreads = jax.config.jax_enable_preemption_service
        kinds = ASKING
        if self._several:
            kinds = (signal.SIGINT,) if self._spreads else ()
        self._handlers = _handling(self._note, *kinds)
        self._handlers.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._handlers.__exit__(*error)

    def reached(self) -> bool:
        """Whether to stop here; all processes ask equally often, at the same places."""
        if not self._several:
            return bool(self._came)
        if not self._spreads:
            return False
        from jax.experimental import multihost_utils

        self._asked += 1
        return multihost_utils.reached_preemption_sync_point(self._asked)

    def stopped(self, where: str) -> Stopped:
        """What to raise once all is saved; all processes call it."""
        import numpy as np

        from alexnet_jax.parallel import processes

        interrupted = np.int64(signal.SIGINT in self._came)
        interrupted = processes.sum_over_processes(interrupted) > 0
        name, code = ASKING[signal.SIGINT if interrupted else signal.SIGTERM]
        return Stopped(f"Stopped by {name} {where}: the same command goes on.", code, agreed=True)

    def _note(self, number, _) -> None:
        self._came.add(number)
        signal.signal(number, signal.SIG_DFL)
        if number == signal.SIGINT:
            # Not by print, which may be what was interrupted.
            os.write(2, b"\nSaving after the step in flight; once more leaves at once.\n")
            if self._several:
                os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _handling(handler, *numbers: int) -> Iterator[None]:
    """Signals are handled so in this context; only the main thread may have it so."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
