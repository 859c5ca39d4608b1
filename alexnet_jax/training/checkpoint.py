"""Checkpoints through Orbax: the whole training state, with a JSON of facts beside it."""

import hashlib
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from alexnet_jax.errors import UserError
from alexnet_jax.parallel import processes
from alexnet_jax.training.step import TrainState


class Checkpoints:
    """The checkpoints of a run in a folder; saving goes on in the background.

    Kept are the newest `keep`, the `keep_best` with the lowest validation error, and those of the
    steps for which `for_good` is true. Use as a context manager: leaving it waits until the last
    save is durable. All processes of a run call every method, and share the folder.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        keep: int,
        keep_best: int = 0,
        for_good: Callable[[int], bool] = lambda step: False,
    ):
        policies = [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(
                get_metric_fn=_goodness, n=keep_best, keep_checkpoints_without_metrics=False
            ),
            _ForGood(for_good),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            best_fn=_goodness,
            create=True,
        )
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_handlers=_handlers()
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, facts: dict, error: float | None = None) -> None:
        """Start saving `state`; it may be donated as soon as this returns.

        `error` is the validation error of these parameters, if they were evaluated.
        """
        rest = state._asdict()
        items = ocp.args.Composite(
            parameters=ocp.args.StandardSave(rest.pop("parameters")),
            rest=ocp.args.StandardSave(rest),
            facts=ocp.args.JsonSave(facts),
        )
        metrics = None if error is None else {"top1_error": error, "step": step}
        self._manager.save(step, args=items, metrics=metrics)

    def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, dict]:
        """State and facts of a step, laid out as `shapes` says, on whatever mesh that is."""
        self._manager.wait_until_finished()
        rest = shapes._asdict()
        items = ocp.args.Composite(
            parameters=ocp.args.StandardRestore(rest.pop("parameters")),
            rest=ocp.args.StandardRestore(rest),
            facts=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(step, args=items)
        return TrainState(parameters=restored.parameters, **restored.rest), restored.facts


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
    """Facts of the checkpoint of a step."""
    with _reader(folder) as manager:
        return manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts


def parameters_at(folder: pathlib.Path, step: int, shapes: dict) -> dict:
    """Parameters of the checkpoint of a step, laid out as `shapes` says."""
    items = ocp.args.Composite(parameters=ocp.args.StandardRestore(shapes))
    with _reader(folder) as manager:
        return manager.restore(step, args=items).parameters


def check_parameters(
    path: pathlib.Path, shapes: dict, layers: Sequence[str]
) -> tuple[pathlib.Path, int]:
    """Folder and step of the checkpoint that `load_parameters` would take; the same errors."""
    folder, step = path / "checkpoints", None
    if path.name.isdigit() and not folder.is_dir():
        folder, step = path.parent, int(path.name)
    if not folder.is_dir():
        raise UserError(
            f"init.from_run={path} is not the folder of a run: expected one that holds "
            "checkpoints/, or one of its checkpoints/STEP."
        )
    with _reader(folder) as manager:
        step = manager.latest_step() if step is None else step
        if step is None or step not in manager.all_steps():
            raise UserError(f"init.from_run={path}: there is no complete checkpoint in {folder}.")
        _check_layers(path, manager.item_metadata(step).parameters, shapes, layers)
    return folder, step


def load_parameters(path: pathlib.Path, shapes: dict, layers: Sequence[str]) -> tuple[dict, str]:
    """Parameters of `layers` (all if empty) from another run: ({layer: ...}, which checkpoint).

    `path` is the run's folder, whose newest checkpoint counts, or a checkpoint in it. `shapes` are
    those of this run. UserError where there is no checkpoint, no such layer, or another shape.
    """
    folder, step = check_parameters(path, shapes, layers)
    with _reader(folder) as manager:
        stored = manager.item_metadata(step).parameters
        wanted = {
            layer: shapes[layer] if layer in (layers or stored) else jax.tree.map(_as_stored, kinds)
            for layer, kinds in stored.items()
        }
        items = ocp.args.Composite(parameters=ocp.args.StandardRestore(wanted))
        found = manager.restore(step, args=items).parameters
    return {layer: found[layer] for layer in (layers or stored)}, str(folder / str(step))


def _check_layers(path: pathlib.Path, stored: dict, shapes: dict, layers: Sequence[str]) -> None:
    common = [layer for layer in stored if layer in shapes]
    for layer in layers or sorted({*stored, *shapes}):
        if layer not in common:
            raise UserError(
                f"init.from_run={path}: layer {layer} is not in both networks: name the layers to "
                f"take with --config.init.layers, out of {', '.join(common) or 'none'}."
            )
        for kind, wanted in shapes[layer].items():
            there = tuple(stored[layer][kind].shape)
            if there != wanted.shape:
                raise UserError(
                    f"init.from_run={path}: {layer}.{kind} has the shape {there} there and "
                    f"{wanted.shape} here: name the other layers with --config.init.layers."
                )


def _as_stored(metadata) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(metadata.shape, metadata.dtype, sharding=sharding)


def _reader(folder: pathlib.Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(read_only=True)
    return ocp.CheckpointManager(folder.absolute(), options=options, item_handlers=_handlers())


def _handlers() -> dict:
    """Of the items of a checkpoint: CHECKPOINT/parameters, /rest and /facts/facts.json."""
    return {
        "parameters": ocp.StandardCheckpointHandler(),
        "rest": ocp.StandardCheckpointHandler(),
        "facts": ocp.JsonCheckpointHandler("facts.json"),
    }


def parameters_sha256(parameters) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters; every process calls it."""
    digest = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameters)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        array = np.ascontiguousarray(processes.to_host(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
