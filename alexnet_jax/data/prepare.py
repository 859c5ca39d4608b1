"""Prepares a data set once, as in 2012: decoded, resized and shuffled into shards.

A preparation that was stopped goes on with the shards that are missing.
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from multiprocessing import connection

from alexnet_jax.data import prepared, shards
from alexnet_jax.data.origins.origin import Origin
from alexnet_jax.data.shards import Settings, Shard
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import ProgressLine, Terminal

POLL_SECONDS = 0.2
NAMED = 20  # images left out are named at the terminal up to this number, and all in the report


def prepare(
    origin: Origin, settings: Settings, folder: pathlib.Path, workers: int, terminal: Terminal
) -> dict:
    """Write the set into `folder` and return its report; UserError if it can't be done."""
    cuts = {name: shards.cut(name, split, settings.seed) for name, split in origin.splits.items()}
    plan = _plan(origin, settings)
    _check_splits(origin)
    with _claimed(folder, plan) as finished:
        if finished:
            terminal.info(f"{folder} is already prepared.")
        else:
            _write_shards(origin, cuts, settings, folder, workers, terminal)
            _finish(origin, cuts, settings, folder, plan)
            shutil.rmtree(folder / prepared.UNFINISHED)
    report = _read_json(folder / prepared.REPORT)
    terminal.info(told(report))
    terminal.info(f"In {folder}: use it with --config.data.path={folder}.")
    return report


def told(report: dict) -> str:
    """The report for a person: a paragraph for each split."""
    lines = []
    for name, split in report["splits"].items():
        counts = sorted(split["images_per_class"].values())
        line = f"{name}: {split['images']:,} of {split['found']:,} images"
        if counts:
            low, middle, high = counts[0], counts[len(counts) // 2], counts[-1]
            line += f" in {len(counts):,} classes of {low:,} to {high:,}, median {middle:,}"
        lines.append(line)
        for word, names in split["oddities"].items():
            if names:
                left_out = word in shards.LEFT_OUT
                shown = ", ".join(names[: NAMED if left_out else 2])
                more = ", ..." if len(names) > (NAMED if left_out else 2) else ""
                lines.append(f"  {len(names):>7,} {word}: {shown}{more}")
    lines.append(f"All names stand in {prepared.REPORT}.")
    return "\n".join(lines)


def _plan(origin: Origin, settings: Settings) -> dict:
    """What decides the result; a preparation goes on only under the same plan."""
    splits = {
        name: {"images": len(split), "fingerprint": split.fingerprint}
        for name, split in origin.splits.items()
    }
    return {"settings": vars(settings), "splits": splits}


def _check_splits(origin: Origin) -> None:
    for name in ("train", "val"):
        if name not in origin.splits or not len(origin.splits[name]):
            raise UserError(
                f"The source has no images to {'train' if name == 'train' else 'validate'} on: "
                f"it has {', '.join(origin.splits) or 'nothing'}."
            )


@contextlib.contextmanager
def _claimed(folder: pathlib.Path, plan: dict) -> Iterator[bool]:
    """Hold `folder` for one preparation; gives whether the set is there already.

    UserError if it is used otherwise, or by another process at this moment.
    """
    plan = json.loads(json.dumps(plan))
    unfinished = folder / prepared.UNFINISHED
    file = unfinished / "plan.json"
    finished = (folder / prepared.FACTS).exists()
    if finished:
        before = prepared.read_facts(folder)["plan"]
    elif file.exists():
        before = _read_json(file)
    else:
        before = None
        if folder.exists() and any(e for e in folder.iterdir() if e.name != unfinished.name):
            raise UserError(f"{folder} is not empty: choose another --output.")
    if before not in (None, plan):
        ours, theirs = plan["settings"], before.get("settings", {})
        different = [f"--{name}" for name in ours if ours[name] != theirs.get(name)]
        what = ", ".join(different) or "other images"
        raise UserError(
            f"{folder} holds a set that was prepared from another source or with other settings "
            f"({what}): choose another --output, or take that folder away."
        )
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with open(unfinished / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not file.exists():
                _write_json(file, plan)
            yield finished
    except BlockingIOError as error:
        raise UserError(f"Another command is preparing {folder} at this moment.") from error
    except OSError as error:
        raise UserError(
            f"The set in {folder} can't be finished ({error}): mend that and start again."
        ) from error
    finally:
        if finished:
            shutil.rmtree(unfinished, ignore_errors=True)


def _write_shards(
    origin: Origin,
    cuts: dict[str, list[Shard]],
    settings: Settings,
    folder: pathlib.Path,
    workers: int,
    terminal: Terminal,
) -> None:
    """Write what is missing, in as many processes as there are workers."""
    for left in (folder / prepared.UNFINISHED).glob("*.partial*"):
        left.unlink()
    everything = [shard for name in cuts for shard in cuts[name]]
    missing = [s for s in everything if not shards.outcome_file(folder, s).exists()]
    if len(missing) < len(everything):
        terminal.info(f"Going on: {len(missing)} of {len(everything)} shards are missing.")
    total = sum(len(shard.ids) for shard in missing)
    progress = ProgressLine("preparing", terminal)
    spawn = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    done, stop = spawn.Value("q", 0), spawn.Event()
    arguments = (origin.splits, settings, folder, done, stop)
    with futures.ProcessPoolExecutor(workers, spawn, _begin, arguments) as pool:
        running = {pool.submit(_write, shard) for shard in missing}
        try:
            while running:
                ended, running = futures.wait(running, POLL_SECONDS, futures.FIRST_COMPLETED)
                for future in ended:
                    future.result()
                if done.value < total:
                    progress(done.value, total)
        except futures.process.BrokenProcessPool as error:
            raise UserError(
                "A process that writes shards was killed, perhaps for want of memory: give the "
                "same command again, with fewer --workers."
            ) from error
        except BaseException:
            stop.set()  # or the end of this block waits until every shard is whole
            pool.shutdown(cancel_futures=True)
            raise
    progress(total, total)


def _finish(
    origin: Origin,
    cuts: dict[str, list[Shard]],
    settings: Settings,
    folder: pathlib.Path,
    plan: dict,
) -> None:
    """Put together what was learnt of all shards; prepared.json comes last."""
    from alexnet_jax.data import metadata

    outcomes = {
        name: [shards.Outcome.load(shards.outcome_file(folder, shard)) for shard in cuts[name]]
        for name in cuts
    }
    facts = metadata.facts(origin, outcomes, settings) | {"plan": plan}
    metadata.write_arrays(folder, outcomes, facts)
    metadata.write_for_tfds(folder, facts)
    _write_json(folder / prepared.REPORT, metadata.report(origin, outcomes))
    _write_json(folder / prepared.FACTS, facts)


def _read_json(path: pathlib.Path) -> dict:
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return content
    except (OSError, ValueError):
        pass
    raise UserError(f"{path} can't be read: take {path.parent} away and prepare anew.")


def _write_json(path: pathlib.Path, value: dict) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1))
    os.replace(partial, path)


# In the processes that write shards: splits, settings, folder, a count of images and an event that
# asks to stop; set once when one begins.
_job: tuple = ()


def _begin(*job) -> None:
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _write(shard: Shard) -> None:
    splits, settings, folder, done, stop = _job

    def tell(images: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        with done.get_lock():
            done.value += images

    try:
        shards.write(folder, shard, splits[shard.split], settings, tell)
    except RuntimeError as error:  # array_record's writer on a full disk
        raise OSError(error) from error


def _end_with_parent() -> None:
    """A killed parent can't end its processes: they would wait for work for ever."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
