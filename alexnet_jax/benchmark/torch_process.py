"""PyTorch's contestants in a process of their own, as its users start it.

So it has the C library's memory as it is, which runtime/malloc.py changes for jax's commands. A
user who sets that variable himself gives it to both.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection

from alexnet_jax.benchmark import torch_contest, turns
from alexnet_jax.benchmark.torch_contest import Contest, Entry
from alexnet_jax.runtime import malloc
from alexnet_jax.runtime.errors import UserError

ENDS_SECONDS = 10.0


@contextlib.contextmanager
def contest_in_process(entry: Entry) -> Iterator[Contest]:
    """PyTorch's ways; UserError if their process ends, as where memory is short."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(entry, theirs))
    with _memory_of_users():
        process.start()
    theirs.close()
    try:
        names, first_seconds, left_out = _answer(ours)
        contestants: dict[str, turns.Contestant] = {
            name: functools.partial(_ask, ours, name) for name in names
        }
        yield Contest(contestants, first_seconds, left_out)
    finally:
        ours.close()  # by which it ends itself, unless it is busy
        process.join(ENDS_SECONDS)
        process.terminate()


@contextlib.contextmanager
def _memory_of_users() -> Iterator[None]:
    """Without what malloc.py set, for a process that is started meanwhile."""
    changed = os.environ.get(malloc.VARIABLE) == malloc.TUNABLES
    if changed:
        del os.environ[malloc.VARIABLE]
    try:
        yield
    finally:
        if changed:
            os.environ[malloc.VARIABLE] = malloc.TUNABLES


def _serve(entry: Entry, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    torch_contest.configure_torch(entry.device)
    contest = torch_contest.make_contest(entry)
    connection.send((list(contest.contestants), contest.first_seconds, contest.left_out))
    while True:
        try:
            name, repetitions = connection.recv()
        except EOFError:
            return
        contest.contestants[name](repetitions)
        connection.send(None)


def _ask(connection: Connection, name: str, repetitions: int) -> None:
    with contextlib.suppress(ConnectionError):  # the answer tells
        connection.send((name, repetitions))
    _answer(connection)


def _answer(connection: Connection):
    try:
        return connection.recv()
    except (EOFError, ConnectionError):
        raise UserError(
            "PyTorch's process has ended while it was timed: what it printed above says why, and "
            "where nothing did, a smaller --batch needs less memory."
        ) from None
