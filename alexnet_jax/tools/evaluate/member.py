"""A checkpoint that is evaluated, and its predictions for every image of a split."""

import dataclasses
import pathlib

import jax
import numpy as np

from alexnet_jax.data.relabel import Relabelled
from alexnet_jax.data.sources import Source
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import ProgressLine, Terminal
from alexnet_jax.training import (
    checkpoint,
    config_check,
    layouts,
    run_folder,
    setup,
    train_state,
)
from alexnet_jax.training import plan as plans
from alexnet_jax.training.evaluation import Evaluator

SPLITS = {"train": "training", "val": "validation"}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is evaluated, and how; `path` and `batch_size` replace the run's unless None."""

    split: str = "val"
    views: str = "center"
    path: str | None = None
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Member:
    """A run's network on a split, ready for the parameters of any of its checkpoints."""

    workdir: pathlib.Path
    name: str
    network: str
    evaluator: Evaluator
    shapes: dict

    @property
    def source(self) -> Source:
        """The images."""
        return self.evaluator.source


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Predictions of a checkpoint for a split, as of Evaluator.predict, and their origin."""

    member: Member
    step: int
    facts: dict
    parameters_sha256: str
    means: dict[str, float]
    log_probabilities: np.ndarray
    labels: np.ndarray


def open_member(workdir: pathlib.Path, facts: dict, choice: Choice, terminal: Terminal) -> Member:
    """Open the split and compile the step for the network of a checkpoint with these `facts`.

    UserError where the split, the data or the run's statistics are missing.
    """
    config = run_folder.config_of(facts)
    if choice.path is not None:
        config.data.path = choice.path
    architecture = plans.architecture_of(config)
    if layouts.layout_conflict(config.parallel.layout, architecture, jax.device_count()):
        config.parallel.layout = "data"
    split = layouts.num_tower_devices(config.parallel.layout, architecture.towers)
    training = facts["data"]["training"]
    sources = dict(zip(SPLITS, setup.open_data(config, architecture), strict=True))
    if choice.split not in sources:
        raise UserError(f"--split={choice.split}: expected {' or '.join(SPLITS)}.")
    source = sources[choice.split]
    classes = config.model.num_classes = facts["identity"]["model.num_classes"]
    if classes < len(source.classes):
        raise UserError(
            f"The data has {len(source.classes)} classes, but the network of {workdir} knows "
            f"{classes}: give the folder with the classes of its training by --path=DIR."
        )
    source = _with_labels_of(source, facts.get("classes"), workdir, terminal)
    plan = plans.make_plan(
        config, architecture, num_images=training["images"], data_classes=len(source.classes)
    )
    config.batch_size = choice.batch_size or _shared(config.batch_size, split)
    config.grad_accum_steps = 1
    config_check.check_config(config, architecture, jax.device_count())
    _warn_of_other_images(workdir, facts, choice, source.fingerprint, terminal)
    if choice.views != "center" and not config.data.flip:
        terminal.info(
            f"warning: {workdir} was trained without flips, but half of these views are flipped."
        )
    mesh = meshes.make_mesh(split)
    steps = setup.make_steps(config, plan, architecture, mesh)
    statistics = run_folder.statistics_of(workdir, config.data.image_size, architecture.channels)
    preprocessing = setup.make_preprocessing(config, architecture, statistics, mesh)
    compiled = setup.compile_evaluation(
        steps,
        choice.views,
        batch_size=config.batch_size,
        image_size=config.data.image_size,
        preprocessing=preprocessing,
    )
    evaluator = Evaluator(
        compiled,
        preprocessing,
        source,
        config.batch_size,
        mesh,
        plan.num_workers,
        config.data.prefetch,
        terminal.warn,
        plan.replace_bad_images,
    )
    shapes = steps.state_shapes().parameters
    return Member(workdir, config.name, config.model.network, evaluator, shapes)


def _warn_of_other_images(
    workdir: pathlib.Path, facts: dict, choice: Choice, fingerprint: str, terminal: Terminal
) -> None:
    """Where the split is not made of the images that the run had, by their fingerprints."""
    trained_on = facts["data"][SPLITS[choice.split]]["fingerprint"]
    if fingerprint != trained_on:
        terminal.info(
            f"warning: these are not the {SPLITS[choice.split]} images that {workdir} knew in "
            f"training: their fingerprint is {fingerprint}, and was {trained_on}."
        )


def predict(member: Member, step: int, facts: dict, terminal: Terminal) -> Prediction:
    """Restore the parameters of a step and predict the split."""
    parameters = checkpoint.parameters_at(member.workdir / "checkpoints", step, member.shapes)
    progress = ProgressLine(f"{member.workdir} at step {step:,}", terminal)
    digest = train_state.parameters_sha256(parameters)
    return Prediction(member, step, facts, digest, *member.evaluator.predict(parameters, progress))


def _with_labels_of(
    source: Source, known: list[str] | None, workdir: pathlib.Path, terminal: Terminal
) -> Source:
    """The source with the labels that the run gave classes of these names, if it kept its names."""
    if known is None or tuple(known) == source.classes:
        return source
    try:
        return Relabelled(source, known)
    except ValueError as strange:
        if len(known) != len(source.classes):
            raise UserError(
                f"The data has a class '{strange}', which {workdir} does not know: its classes are "
                f"{', '.join(known[:3])}{', ...' if known[3:] else ''}. Give images of those by "
                "--path=DIR."
            ) from None
        terminal.info(
            f"warning: {workdir} has no class '{strange}'; its {len(known):,} classes are taken to "
            "be those of the data in the same order."
        )
        return source


def _shared(batch_size: int, tower_devices: int) -> int:
    """The least multiple of the number of device groups that is at least `batch_size`."""
    groups = jax.device_count() // tower_devices
    return -(-batch_size // groups) * groups
