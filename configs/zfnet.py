"""Zeiler and Fergus's network of 2013 with the settings of their paper.

    python -m alexnet_jax.main --config=configs/zfnet.py --config.data.path=DIR --workdir=DIR

70 epochs in batches of 128 images; the learning rate is lowered by hand when the validation error
stands still, here by the plateau rule. They report 38.4% top-1 and 16.5% top-5 error with ten
views. Their bound on the size of a filter (RMS 0.1) is not kept here. It has been neither run to
its end nor timed here. `:smoke` takes three steps.
"""

from alexnet_jax.training import defaults


def get_config(argument: str = ""):
    """Section 3 of arXiv 1311.2901."""
    words = defaults.options(argument, ("smoke",))
    config = defaults.get_config()
    config.name = config.model.network = "zfnet"
    config.num_epochs = 70.0
    config.data.colour_noise = 0.0
    config.optimizer.schedule = "plateau"
    config.optimizer.bias_learning_rate = config.optimizer.learning_rate
    return defaults.smoke(config) if "smoke" in words else config
