"""Prepares a data set once, as in 2012: decoded, resized and shuffled into shards.

A preparation that was stopped goes on with the shards that are missing.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

from alexnet_jax.data import metadata, prepared, shards
from alexnet_jax.data.origins.origin import Origin
from alexnet_jax.data.shard_workers import write_shards
from alexnet_jax.data.shards import Settings, Shard
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal


def prepare_dataset(
    origin: Origin,
    settings: Settings,
    folder: pathlib.Path,
    *,
    num_workers: int,
    terminal: Terminal,
) -> dict:
    """Write the set into `folder` and return its report (metadata.make_report).

    UserError if the folder is in use or holds something else, or the source can't be prepared.
    """
    divided = {
        name: shards.divide_split(name, split, settings.seed)
        for name, split in origin.splits.items()
    }
    plan = _plan(origin, settings)
    _check_splits(origin)
    with _locked(folder, plan) as finished:
        if finished:
            terminal.info(f"{folder} is already prepared.")
        else:
            missing = _missing_shards(folder, divided, terminal)
            write_shards(
                origin.splits, missing, settings, folder, num_workers=num_workers, terminal=terminal
            )
            _write_metadata(origin, divided, settings, folder, plan)
            shutil.rmtree(folder / prepared.UNFINISHED)
    report = _read_json(folder / prepared.REPORT)
    terminal.info(metadata.report_text(report))
    terminal.info(f"In {folder}: use it with --config.data.path={folder}.")
    return report


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
def _locked(folder: pathlib.Path, plan: dict) -> Iterator[bool]:
    """Lock `folder` for one preparation; yields whether the set is finished already.

    UserError if the folder holds something else, or another process prepares it now.
    """
    plan = json.loads(json.dumps(plan))  # as it comes back from a file
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
        wanted, former = plan["settings"], before.get("settings", {})
        changed = [name for name in wanted if wanted[name] != former.get(name)]
        flags = ["--image_size" if name == "size" else f"--{name}" for name in changed]
        difference = ", ".join(flags) or "other images"
        raise UserError(
            f"{folder} holds a set that was prepared from another source or with other settings "
            f"({difference}): choose another --output, or take that folder away."
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


def _missing_shards(
    folder: pathlib.Path, divided: dict[str, list[Shard]], terminal: Terminal
) -> list[Shard]:
    """The shards that are not written yet; what a stopped process left of others is removed."""
    for partial in (folder / prepared.UNFINISHED).glob("*.partial*"):
        partial.unlink()
    everything = [shard for of_split in divided.values() for shard in of_split]
    missing = [shard for shard in everything if not shards.summary_file(folder, shard).exists()]
    if len(missing) < len(everything):
        terminal.info(f"Going on: {len(missing)} of {len(everything)} shards are missing.")
    return missing


def _write_metadata(
    origin: Origin,
    divided: dict[str, list[Shard]],
    settings: Settings,
    folder: pathlib.Path,
    plan: dict,
) -> None:
    """Write the files beside the shards; prepared.json, which marks the set as finished, last."""
    summaries = {
        name: [shards.ShardSummary.load(shards.summary_file(folder, shard)) for shard in of_split]
        for name, of_split in divided.items()
    }
    facts = metadata.dataset_facts(origin, summaries, settings) | {"plan": plan}
    metadata.write_arrays(folder, summaries, facts)
    metadata.write_for_tfds(folder, facts)
    _write_json(folder / prepared.REPORT, metadata.make_report(origin, summaries))
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
