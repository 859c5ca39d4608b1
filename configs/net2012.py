"""The authors' other networks of 2012 with the schedules they ran by hand.

    python -m alexnet_jax.main --config=configs/net2012.py:net147 --config.data.path=DIR

`:net120_2012`, `:net131`, `:net135` and `:net137`, with net 145 (configs/imagenet.py) very likely
the paper's ensemble of five; `:net145_half`, `:net147`, `:net148` and `:net150`, its ablations;
`:net145_2010`, net 145 on ILSVRC-2010 (Table 1). `python -m alexnet_jax model` lists the errors
that the authors report. Each costs about as much as net 145; none has been run to its end here.
`:NAME,smoke` takes three steps.
"""

import dataclasses

from alexnet_jax.training import defaults


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Epochs at which the authors changed something; comments of layer-params-*.cfg.

    The weights' learning rate falls from 0.01 to 0.001, 0.0001 and 0.00001 at `drops`; that of the
    `early` layers goes to 0.00001 at `slowed` (None: it doesn't) and to 0 at `frozen`. Colour noise
    ends at `noise_end`. `bias_learning_rate` holds from the first drop on, 0.02 before: the release
    has only its last value.
    """

    drops: tuple[int, ...]
    early: tuple[str, ...]
    slowed: int | None
    frozen: int
    noise_end: int | None
    end: int
    bias_learning_rate: float = 0.02


SCHEDULES = {
    "net120_2012": Schedule((22, 49, 81), ("conv1", "conv2"), 66, 73, 66, 95),
    "net131": Schedule((22, 46, 81), ("conv1", "conv2"), 66, 75, 66, 100, bias_learning_rate=0.002),
    "net135": Schedule((20, 47, 81), ("conv1", "conv2"), 66, 75, 66, 96, bias_learning_rate=0.002),
    "net137": Schedule(
        (26, 50, 84), ("conv1", "conv2"), None, 75, 75, 99, bias_learning_rate=0.002
    ),
    "net145_2010": Schedule((23, 51, 78), ("conv1",), 68, 72, 68, 93, bias_learning_rate=0.002),
    "net145_half": Schedule((20, 48), ("conv1",), 66, 72, 66, 96),
    "net147": Schedule((23, 51, 79), ("conv1",), None, 79, None, 90, bias_learning_rate=0.002),
    "net148": Schedule((22, 44, 86), ("conv1",), 69, 73, 69, 97),
    "net150": Schedule((25, 49, 79), ("conv1",), 66, 72, 66, 92),
}


def get_config(argument: str = "net147"):
    """One of SCHEDULES, named after the colon."""
    words = defaults.options(argument, (*SCHEDULES, "smoke"))
    name = next(iter(sorted(words - {"smoke"})), "net147")
    run = SCHEDULES[name]
    config = defaults.get_config()
    config.name = name
    config.model.network = "net145" if name == "net145_2010" else name
    config.num_epochs = float(run.end)
    config.data.augmentation_group_size = 32
    if run.noise_end is not None:
        config.data.colour_noise_epochs = float(run.noise_end)
    weights = ((0, 0.01), *zip(run.drops, (1e-3, 1e-4, 1e-5), strict=False))
    biases = ((0, 0.02),)
    if run.bias_learning_rate != 0.02:
        biases += ((run.drops[0], run.bias_learning_rate),)
    config.optimizer.learning_rate, config.optimizer.bias_learning_rate = weights, biases
    for layer in run.early:
        slowed = ((run.slowed, 1e-5),) if run.slowed else ()
        before = run.slowed or run.frozen
        config.optimizer.layers[layer] = {
            "learning_rate": (
                *(pair for pair in weights if pair[0] < before),
                *slowed,
                (run.frozen, 0.0),
            ),
            "bias_learning_rate": (*biases, (run.frozen, 0.0)),
        }
    return defaults.smoke(config) if "smoke" in words else config
