"""Checkpoints through Orbax: the whole training state, with a JSON of facts beside it."""

import hashlib
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from alexnet_jax.training.step import TrainState


class Checkpoints:
    """The newest `keep` checkpoints in a folder; saving goes on in the background.

    Use as a context manager: leaving it waits until the last save is durable. All processes of a
    run call every method, and share the folder.
    """

    def __init__(self, folder: pathlib.Path, keep: int):
        policy = checkpoint_managers.LatestN(keep)
        options = ocp.CheckpointManagerOptions(preservation_policy=policy, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, facts: dict) -> None:
        """Start saving `state`; it may be donated as soon as this returns."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()), facts=ocp.args.JsonSave(facts)
        )
        self._manager.save(step, args=items)

    def restore(self, step: int, shapes: TrainState) -> tuple[TrainState, dict]:
        """State and facts of a step, laid out as `shapes` says, on whatever mesh that is."""
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(shapes._asdict()), facts=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        return TrainState(**restored.state), restored.facts


def parameters_sha256(parameters) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters; every process calls it."""
    digest = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(parameters)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        if not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
