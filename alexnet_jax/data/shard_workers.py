"""The worker processes that write the shards of a prepared set."""

import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection

from alexnet_jax.data import shards
from alexnet_jax.data.origins.origin import Split
from alexnet_jax.data.shards import Settings, Shard
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import ProgressLine, Terminal

POLL_SECONDS = 0.2


def write_shards(
    splits: Mapping[str, Split],
    missing: Sequence[Shard],
    settings: Settings,
    folder: pathlib.Path,
    *,
    num_workers: int,
    terminal: Terminal,
) -> None:
    """Write the missing shards, in as many processes as there are workers.

    UserError if one of the processes is killed.
    """
    total = sum(len(shard.ids) for shard in missing)
    progress = ProgressLine("preparing", terminal)
    spawn = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    done, stop = spawn.Value("q", 0), spawn.Event()
    arguments = (splits, settings, folder, done, stop)
    with futures.ProcessPoolExecutor(num_workers, spawn, _start_worker, arguments) as pool:
        running = {pool.submit(_write, shard) for shard in missing}
        try:
            while running:
                ended, running = futures.wait(running, POLL_SECONDS, futures.FIRST_COMPLETED)
                for future in ended:
                    future.result()
                if done.value < total:
                    progress(done.value, total)
        except BrokenProcessPool as error:
            raise UserError(
                "A process that writes shards was killed, perhaps for want of memory: give the "
                "same command again, with fewer --num_workers."
            ) from error
        except BaseException:
            stop.set()  # or the end of this block waits until every shard is whole
            pool.shutdown(cancel_futures=True)
            raise
    progress(total, total)


# In a worker: splits, settings, folder, a count of images and an event that asks to stop; set once
# when the worker starts.
_job: tuple = ()


def _start_worker(*job) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _write(shard: Shard) -> None:
    splits, settings, folder, done, stop = _job

    def progress(images: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        with done.get_lock():
            done.value += images

    try:
        shards.write_shard(folder, shard, splits[shard.split], settings, progress)
    except RuntimeError as error:  # array_record's writer on a full disk
        raise OSError(error) from error


def _exit_with_parent() -> None:
    """A killed parent can't end its workers: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
