"""Sections 3.2 to 3.4 and 4 in small: a two-tower network on CIFAR-10, and less of it.

    python -m alexnet_jax.main --config=configs/ablations.py --config.data.path=DIR

DIR is as for configs/cifar10.py. `:towers1` takes one dense tower of the same widths, `:half` one
tower with half the kernels (net145_half in small), `:no_norm` no normalisation, `:pool2` windows of
2 x 2 for pooling; `:paper` takes the paper's text where net 145 differs, the network included (see
docs/history.md). `:no_dropout` leaves dropout out, `:whole` crops, flips and colour noise. Seven
epochs on random crops of 24 pixels, an estimated four minutes on two cores: a step takes half as
long as one of configs/cifar10.py. `python -m alexnet_jax reproduce ablations` runs them with
several seeds. `:smoke` takes three steps.
"""

from alexnet_jax.training import defaults

NETWORKS = ("half", "no_norm", "pool2", "paper")


def get_config(argument: str = ""):
    """Net 145's rule with its first learning rates, divided by ten once."""
    others = ("towers1", "no_dropout", "whole", "smoke")
    words = defaults.options(argument, (*NETWORKS, *others))
    chosen = sorted(words & {*NETWORKS})
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} are different networks: take one of them.")
    config = defaults.get_config()
    config.name = "-".join(["ablations", *sorted(words - {"smoke"})])
    config.model.network = "_".join(["cifar_towers", *chosen])
    config.num_epochs = 7.0
    defaults.cifar(config)
    config.data.random_crop = config.data.flip = "whole" not in words
    config.data.colour_noise = 0.0 if "whole" in words else 0.1
    config.optimizer.learning_rate = ((0, 0.01), (5, 0.001))
    config.optimizer.bias_learning_rate = ((0, 0.02), (5, 0.002))
    if "towers1" in words:
        config.model.towers = 1
    if "no_dropout" in words:
        config.model.dropout = False
    if "paper" in words:
        config.data.colour_noise_by = "eigenvalues"
        config.data.colour_noise_divides = False
        config.optimizer.bias_learning_rate = config.optimizer.learning_rate
    return defaults.smoke(config) if "smoke" in words else config
