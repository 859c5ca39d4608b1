"""Output of a run at the terminal: lines that stay, and one that is rewritten in place."""

import shutil
import sys
import time
from typing import TextIO

REDRAW_SECONDS = 0.5
LINE_SECONDS = 10.0  # between two lines of progress where none is rewritten


class Terminal:
    """Prints lines; where `stream` is a terminal, the newest live line is overwritten.

    A silent one, `speaks=False`, is for all processes but the lead. Leaving the context ends the
    live line, so that an error message starts on a line of its own.
    """

    def __init__(self, speaks: bool = True, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._speaks = speaks
        self.rewrites = speaks and self._stream.isatty()
        self._live, self._drawn = "", 0.0

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_) -> None:
        if self._live:
            self._write("\n")
        self._live = ""

    def info(self, text: str) -> None:
        """Print a line that stays."""
        if self._speaks:
            self._write(f"{self._erasing()}{text}\n{self._live}")

    def warn(self, text: str) -> None:
        """Print a warning, in silent processes too: the other processes don't know of it."""
        self._write(f"{self._erasing()}warning: {text}\n{self._live}")

    def live(self, text: str) -> None:
        """Show the newest state of a long task: overwritten by the next, or a plain line."""
        if self.rewrites:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._write(self._erasing() + text)
            self._live, self._drawn = text, time.monotonic()
        else:
            self.info(text)

    def wants_redraw(self) -> bool:
        """Whether the live line is old enough to be drawn again."""
        return bool(self._live) and time.monotonic() - self._drawn > REDRAW_SECONDS

    def end_live(self, text: str) -> None:
        """Turn the live line into one that stays."""
        if self.rewrites:
            erasing, self._live = self._erasing(), ""
            self._write(f"{erasing}{text}\n")
        else:
            self.info(text)

    def _erasing(self) -> str:
        return "\r\x1b[K" if self._live else ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class ProgressLine:
    """Prints the progress of a long task, and its end; plain lines at most every LINE_SECONDS."""

    def __init__(self, task: str, terminal: Terminal, unit: str = "images"):
        self._task, self._terminal, self._unit = task, terminal, unit
        self._start = self._last_line = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` images, or of another unit, are finished."""
        now = time.perf_counter()
        line = f"{self._task}: {done:,} of {total:,} {self._unit}"
        if done:
            each = max(now - self._start, 1e-9) / done
            rate = f"{each:,.1f} s each" if each > 1 else f"{1 / each:,.0f} {self._unit}/s"
            line += f", {rate}"
        if done == total:
            self._terminal.end_live(line)
        elif now - self._last_line > (REDRAW_SECONDS if self._terminal.rewrites else LINE_SECONDS):
            self._last_line = now
            left = f", {duration((total - done) * each)} left" if done else ""
            self._terminal.live(line + left)


def duration(seconds: float) -> str:
    """Seconds as 12s, 3m40s or 5h07m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
