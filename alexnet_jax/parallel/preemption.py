"""Notice that a run has to end soon: SIGTERM, which schedulers send before they take a machine."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Notice:
    """Whether SIGTERM has come, agreed on by all processes; use as a context manager.

    With several processes jax's runtime catches the signal, if its preemption service is on. With
    one process a second SIGTERM ends it at once.
    """

    def __init__(self):
        self._came = False
        self._before = None

    def __enter__(self) -> "Notice":
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def reached(self, step: int) -> bool:
        """Whether to stop after this step; all processes ask after every step."""
        if jax.process_count() > 1 and jax.config.jax_enable_preemption_service:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._came

    def _note(self, *_) -> None:
        self._came = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
