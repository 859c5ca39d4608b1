"""The experiments, as data: what of the paper fits two cores, in small. All are on CIFAR-10."""

import difflib
from collections.abc import Mapping

from alexnet_jax.reproduce import run_metrics
from alexnet_jax.reproduce.experiment import Column, Experiment, Run
from alexnet_jax.runtime.errors import UserError

EPOCHLY: dict[str, object] = {"log.every_steps": 391}  # one line an epoch of CIFAR-10
TEST = Column("test error", run_metrics.test_error)
BEST = Column("lowest on the way", run_metrics.best_error)


def learning_rates(rate: float, drop: float | None = None) -> dict[str, object]:
    """The rate of weights and twice as much for biases, a tenth from epoch `drop` on."""
    weights, biases = (
        ((0, first),) if drop is None else ((0, first), (drop, first / 10))
        for first in (rate, 2 * rate)
    )
    return {"optimizer.learning_rate": weights, "optimizer.bias_learning_rate": biases}


def figure1_run(activation: str, rate: float, epochs: float, minutes: int) -> Run:
    """The four-layer network at one rate, until its training error is 25%."""
    relu = activation == "relu"
    return Run(
        f"figure1-{activation}-{rate:g}",
        f"{'ReLU' if relu else 'tanh'}, rate {rate:g}",
        f"configs/figure1.py{'' if relu else ':tanh'}",
        minutes,
        EPOCHLY | learning_rates(rate) | {"num_epochs": epochs},
        group=f"figure1-{activation}",
        baseline="" if relu else "figure1-relu",
        until=0.25,
    )


# Each is followed by its double: a rate was added while the last one was the best.
FIGURE1_RATES = {
    "relu": (0.0005, 0.001, 0.002, 0.004, 0.008),
    "tanh": (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032),
}
FIGURE1 = Experiment(
    "figure1",
    "3.1, Figure 1",
    "ReLU reaches 25% training error six times sooner than tanh",
    (
        *(figure1_run("relu", rate, 25.0, 25) for rate in FIGURE1_RATES["relu"]),
        *(figure1_run("tanh", rate, 60.0, 60) for rate in FIGURE1_RATES["tanh"]),
    ),
    (Column("epochs to 25% training error", run_metrics.epochs_to_25_percent, percent=False,
            bound=run_metrics.epochs_trained),
     Column("lowest training error", run_metrics.lowest_training_error)),
    ratio=True,
)  # fmt: skip

# The rates of configs/cifar10.py, dropped after 30 and 33 of 36 epochs instead of 500 and 510.
SHORT = EPOCHLY | {
    "num_epochs": 36.0,
    "optimizer.learning_rate": ((0, 1e-3), (30, 1e-4), (33, 1e-5)),
    "optimizer.bias_learning_rate": ((0, 2e-3), (30, 2e-4), (33, 2e-5)),
}
CIFAR = Experiment(
    "cifar",
    "3.3",
    "normalisation takes a four-layer network from 13% to 11%; the 18% network beside them",
    (
        Run("cifar-11pct", "11pct, normalised, 36 of 520 epochs", "configs/cifar10.py:11pct", 75,
            SHORT),
        Run("cifar-13pct", "13pct, 36 of 520 epochs", "configs/cifar10.py:13pct", 65, SHORT,
            baseline="cifar-11pct"),
        Run("cifar-18pct", "18pct, all 140 epochs", "configs/cifar10.py", 140, EPOCHLY,
            most_seeds=1),
    ),
    (TEST, BEST),
)  # fmt: skip

BASE = Run("towers", "the network of configs/ablations.py", "configs/ablations.py", 4,
           EPOCHLY, evaluations=(("val", "ten"),))  # fmt: skip


def variant(name: str, label: str, options: str = "", changes: Mapping[str, object] = {}) -> Run:
    """BASE with one difference, by options of its config or by fields."""
    config = f"configs/ablations.py{':' * bool(options)}{options}"
    return Run(name, label, config, BASE.minutes, EPOCHLY | dict(changes), baseline=BASE.name)


ABLATIONS = Experiment(
    "ablations",
    "3.2 to 3.4",
    "less error by two towers (1.7), response normalisation (1.4), overlapping pooling (0.4)",
    (
        BASE,
        variant("towers-half", "one tower with half the kernels (3.2)", "half"),
        variant("towers-dense", "one dense tower, same widths", "towers1"),
        variant("towers-dense-narrow", "one dense tower, as many parameters", "towers1",
                {"model.width": 0.955}),
        variant("towers-no-norm", "no normalisation (3.3)", "no_norm"),
        variant("towers-pool2", "pooling without overlap (3.4)", "pool2"),
    ),
    (TEST, BEST),
)  # fmt: skip

OVERFIT = EPOCHLY | {"num_epochs": 30.0} | learning_rates(0.01, 25)
TRAINED = (("train", "center"),)
DROPOUT = Experiment(
    "dropout",
    "4.2",
    "without dropout a network overfits: a larger gap between test and training error",
    (
        Run("dropout-with", "with dropout", "configs/ablations.py:whole", 17, OVERFIT,
            evaluations=TRAINED),
        Run("dropout-without", "without", "configs/ablations.py:whole,no_dropout", 17, OVERFIT,
            baseline="dropout-with", evaluations=TRAINED),
    ),
    (Column("gap", run_metrics.gap, best=False), TEST,
     Column("training error", run_metrics.training_error)),
)  # fmt: skip

VIEWS = Experiment(
    "views",
    "4.1, footnote 5",
    "ten views take 1.5 points off the error of one",
    (BASE,),
    (Column("gain", run_metrics.gain_of_ten_views, best=False), TEST,
     Column("with ten views", run_metrics.ten_views)),
)  # fmt: skip

MEAN = "inputs-mean"
FIVE_EPOCHS = EPOCHLY | {"num_epochs": 5.0, "data.colour_noise": 0.0}
UNCENTRED = {"data.mean": "none"}
MIN_MAX = UNCENTRED | {"data.units": "min_max"}
STANDARDISED = {"data.units": "standardise", "data.mean": "channel"}
# With these conv1 gives at the start what it gives of grey levels; 64 of them are one deviation.
AS_OF_255, AS_OF_64 = {"init.first_weights": 255.0}, {"init.first_weights": 64.0}


def candidate(group: str, label: str, rate: float, changes: Mapping[str, object]) -> Run:
    """BASE over five epochs with another input or activation, at one rate of several."""
    return Run(
        f"{group}-{rate:g}",
        f"{label}, rate {rate:g}",
        "configs/ablations.py",
        3,
        FIVE_EPOCHS | learning_rates(rate, 4) | dict(changes),
        baseline="" if group == MEAN else MEAN,
        group=group,
        most_seeds=1 if changes in (MIN_MAX, STANDARDISED) else 100,  # they stay at chance
    )


INPUTS = Experiment(
    "inputs",
    "2 and 3.1",
    "centred grey levels and ReLU against other inputs and activations, the rate chosen for each",
    tuple(
        candidate(group, label, rate, changes)
        for group, label, grid, changes in (
            # As with FIGURE1_RATES, some have a fourth since the third was the best.
            (MEAN, "mean image subtracted, ReLU", (0.002, 0.01, 0.05), {}),
            ("inputs-raw", "grey levels as they are", (0.0005, 0.002, 0.01, 0.05), UNCENTRED),
            ("inputs-min-max", "min-max, 0 to 1", (0.005, 0.02, 0.08), MIN_MAX),
            ("inputs-min-max-255", "min-max, conv1 starts 255 times as large",
             (0.005, 0.02, 0.08), MIN_MAX | AS_OF_255),
            ("inputs-standardised", "standardised", (0.005, 0.02, 0.08), STANDARDISED),
            ("inputs-standardised-64", "standardised, conv1 starts 64 times as large",
             (0.005, 0.02, 0.08, 0.32), STANDARDISED | AS_OF_64),
            ("inputs-tanh", "mean image, tanh", (0.002, 0.01, 0.05, 0.2),
             {"model.activation": "tanh"}),
            ("inputs-sigmoid", "mean image, sigmoid", (0.01, 0.05, 0.2, 0.8),
             {"model.activation": "sigmoid"}),
        )
        for rate in grid
    ),
    (TEST, BEST),
)  # fmt: skip

HISTORY = Experiment(
    "history",
    "3 to 5",
    "the points in which the text and its source differ make a difference (docs/history.md)",
    (
        BASE,
        variant("history-network", "the text's network (points 1 to 4)",
                changes={"model.network": "cifar_towers_paper"}),
        variant("history-biases", "biases at the weights' rate (5)",
                changes={"optimizer.bias_learning_rate": ((0, 0.01), (5, 0.001))}),
        variant("history-colours", "colour noise by eigenvalues, undivided (6)",
                changes={"data.colour_noise_by": "eigenvalues",
                         "data.colour_noise_divides": False}),
        variant("history-shared", "32 images share crop and flip (7, the source's)",
                changes={"data.augmentation_group_size": 32}),
        variant("history-decay", "biases decayed too (9)",
                changes={"optimizer.bias_decay": 0.0005}),
        variant("history-all", "the text's in points 1 to 6", "paper"),
    ),
    (TEST, BEST),
)  # fmt: skip

EXPERIMENTS = (FIGURE1, CIFAR, ABLATIONS, DROPOUT, VIEWS, INPUTS, HISTORY)


def find_experiment(name: str) -> Experiment:
    """The experiment of that name; UserError with the nearest name where there is none."""
    known = {experiment.name: experiment for experiment in EXPERIMENTS}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, [*known, "table2"], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"There is no experiment '{name}': {hint}Expected one of {', '.join(known)}, or table2."
    )
