"""Checkpoints through Orbax: the whole training state, with a JSON of facts beside it.

Each has a manifest (checkpoint_integrity.py), which is written before the folder gets its name:
what is called CHECKPOINTS/STEP was whole once.
"""

import contextlib
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from alexnet_jax.parallel import processes
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import checkpoint_integrity
from alexnet_jax.training.train_state import TrainState, joined

# Orbax changes or adds these after the manifest is written; nothing is read from them.
LATER = ("_CHECKPOINT_METADATA", "commit_success.txt")


class Checkpoints:
    """The checkpoints of a run in a folder; saving goes on in the background.

    Kept are the newest `keep`, the `keep_best` with the lowest validation error, and those of the
    steps for which `keep_for_good` is true. Use as a context manager: leaving it waits until the
    last save is durable. All processes of a run call every method, and share the folder.

    UserError where one can't be written; those before stay.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        keep: int,
        keep_best: int = 0,
        keep_for_good: Callable[[int], bool] = lambda step: False,
    ):
        policies = [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(
                get_metric_fn=_goodness, n=keep_best, keep_checkpoints_without_metrics=False
            ),
            _ForGood(keep_for_good),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=_goodness,
            create=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
        )
        self._folder, self._saving = folder.absolute(), 0
        with self._writing():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(
                self._folder, options=options, item_handlers=_handlers()
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error, *_) -> None:
        try:
            with self._writing():
                self._manager.close()
        except UserError:
            if error is None:  # else that one is the reason, or the consequence
                raise
        else:
            self._tidy()

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, facts: dict, error: float | None = None) -> None:
        """Start saving `state`; it may be donated as soon as this returns.

        `error` is the validation error of these parameters, if they were evaluated. A checkpoint of
        this step that is there already stays until this one is whole. Its item "parameters", which
        is all that anything but training reads, are those for use.
        """
        parameters, rest = state.parted()
        self._save(step, {"parameters": parameters, "rest": rest}, facts, error)

    def save_parameters(self, step: int, parameters: dict, facts: dict) -> None:
        """As `save` for parameters alone, NumPy arrays too; no training goes on from it."""
        self._save(step, {"parameters": parameters}, facts, None)

    def _save(self, step: int, trees: dict, facts: dict, error: float | None) -> None:
        with self._writing():
            self._manager.wait_until_finished()
        self._tidy()
        self._check_space(sum(leaf.nbytes for leaf in jax.tree.leaves(trees)))
        if step in self._manager.all_steps():
            if processes.is_lead():
                checkpoint_integrity.set_aside(
                    self._folder / str(step), checkpoint_integrity.BEFORE
                )
            processes.wait_for_all()
            self._manager.reload()
        self._saving = step
        items = ocp.args.Composite(
            facts=ocp.args.JsonSave(facts),
            **{name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()},
        )
        metrics = None if error is None else {"top1_error": error, "step": step}
        with self._writing():
            self._manager.save(step, args=items, metrics=metrics)

    def check(self) -> None:
        """Raise the UserError of a save that failed meanwhile; never waits.

        With several processes the next save raises it, since Orbax's own threads wait for each
        other until then.
        """
        if jax.process_count() == 1 and not self._manager.is_saving_in_progress():
            with self._writing():
                self._manager.wait_until_finished()

    def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, dict]:
        """State and facts of a step, laid out as `shapes` says, on whatever mesh that is.

        UserError where the checkpoint holds other arrays.
        """
        with self._writing():
            self._manager.wait_until_finished()
        parameters, rest = shapes.parted()
        items = ocp.args.Composite(
            parameters=_restoring(parameters),
            rest=_restoring(rest),
            facts=ocp.args.JsonRestore(),
        )
        restored = _restored(self._manager, self._folder, step, items)
        return joined(restored.parameters, restored.rest), restored.facts

    def _check_space(self, needed: int) -> None:
        """A full disk is known before anything is written to it, by all processes alike."""
        free = shutil.disk_usage(self._folder).free
        if free < 1.1 * needed:
            raise UserError(
                f"The disk of {self._folder} is full: a checkpoint needs {needed / 1e6:,.1f} MB "
                f"and {free / 1e6:,.1f} MB are free. Make room; the same command goes on from the "
                "newest one there."
            )

    def _write_manifest(self) -> None:
        """Called in the lead process when all files of a checkpoint are there, before it counts."""
        (folder,) = self._folder.glob(f"{self._saving}{checkpoint_integrity.TEMPORARY}*")
        checkpoint_integrity.write(folder, LATER)

    def _tidy(self) -> None:
        if processes.is_lead():
            checkpoint_integrity.tidy(self._folder)

    def _tidy_for_good(self) -> None:
        """After a failure: until nothing came for a second, since Orbax's threads may still write.

        What comes later yet is taken away when the run goes on.
        """
        clean = 0
        for _ in range(100 if processes.is_lead() else 0):
            clean = clean + 1 if checkpoint_integrity.tidy(self._folder) else 0
            if clean == 10:
                return
            time.sleep(0.1)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What goes wrong with files in here becomes a UserError, and leaves nothing half-written.

        Orbax wraps the errors of its threads in many kinds.
        """
        try:
            yield
        except Exception as error:
            self._tidy_for_good()
            raise UserError(
                f"Checkpoints can't be written to {self._folder} ({_reason(error)}): mend that; "
                "the same command goes on from the newest one there."
            ) from error


class _ForGood(checkpoint_managers.PreservationPolicy):
    def __init__(self, for_good: Callable[[int], bool]):
        self._for_good = for_good

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        return [self._for_good(checkpoint.step) for checkpoint in checkpoints]


def _goodness(metrics: dict) -> tuple[float, int]:
    """Ranks checkpoints: the lower the error the better, and of equals the first."""
    return -metrics["top1_error"], -metrics["step"]


def newest_facts(folder: pathlib.Path) -> dict | None:
    """Facts of the newest checkpoint in `folder`, None if there is none; creates nothing."""
    steps = steps_in(folder)
    return facts_at(folder, steps[-1]) if steps else None


def steps_in(folder: pathlib.Path) -> list[int]:
    """Steps of the complete checkpoints in `folder`, ascending; creates nothing."""
    if not folder.is_dir():
        return []
    with _reader(folder) as manager:
        return sorted(manager.all_steps())


def facts_at(folder: pathlib.Path, step: int) -> dict:
    """Facts of the checkpoint of a step; UserError where they are damaged."""
    checkpoint_integrity.check_whole(folder, step, "facts")
    with _reader(folder) as manager:
        return manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts


def parameters_at(folder: pathlib.Path, step: int, shapes: dict) -> dict:
    """Parameters of the checkpoint of a step, laid out as `shapes` says.

    UserError where they are damaged or others.
    """
    checkpoint_integrity.check_whole(folder, step, "parameters")
    items = ocp.args.Composite(parameters=_restoring(shapes))
    with _reader(folder) as manager:
        return _restored(manager, folder, step, items).parameters


def shapes_at(folder: pathlib.Path, step: int) -> dict:
    """Shapes and types of the parameters of the checkpoint of a step, as Orbax tells them."""
    checkpoint_integrity.check_whole(folder, step, "parameters")
    with _reader(folder) as manager:
        return manager.item_metadata(step).parameters


def _restored(manager: ocp.CheckpointManager, folder: pathlib.Path, step: int, items):
    """What Orbax restores; UserError where it can't, in one sentence."""
    try:
        return manager.restore(step, args=items)
    except Exception as error:  # of many kinds
        raise UserError(
            f"The checkpoint {folder / str(step)} can't be restored ({_reason(error)}): expected "
            "one that was saved by this version of the program for this network."
        ) from error


def _reason(error: BaseException) -> str:
    """In a few words what the system, or else the library, complains of."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    code = re.search(r"os_error_code='(\d+)'", str(error))
    text = os.strerror(int(code[1])) if code else " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "..."


def _reader(folder: pathlib.Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(read_only=True)
    return ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=_handlers())


def _restoring(shapes) -> ocp.args.PyTreeRestore:
    """Arrays of these shapes, types and shardings."""
    arguments = ocp.checkpoint_utils.construct_restore_args(shapes)
    return ocp.args.PyTreeRestore(shapes, restore_args=arguments)


def _handlers() -> dict:
    """Of the items of a checkpoint: CHECKPOINT/parameters, /rest and /facts/facts.json.

    Of an array that all devices hold each device writes a part, but of one of less than a megabyte
    each, one device writes all: cutting it would compile a program for each part, which the first
    save of a run on eight devices would wait for.
    """
    arrays = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=1_000_000)
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, arrays), (np.ndarray, ocp.type_handlers.NumpyHandler())
    )
    return {
        "parameters": ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
        "rest": ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
        "facts": ocp.JsonCheckpointHandler("facts.json"),
    }
