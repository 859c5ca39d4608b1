"""Caffe's AlexNet, and CaffeNet, with Caffe's own training settings.

    python -m alexnet_jax.main --config=configs/caffe.py --config.data.path=DIR --workdir=DIR

450,000 steps of 256 images warped to 256 x 256, the learning rate divided by ten every 100,000. Its
authors report 42.9% top-1 and 19.8% top-5 error on the central crop; `:caffenet` 42.6% and 19.6%.
It has been neither run to its end nor timed here. `:smoke` takes three steps.
"""

from alexnet_jax.training import defaults


def get_config(argument: str = ""):
    """Settings of models/bvlc_alexnet and models/bvlc_reference_caffenet."""
    words = defaults.options(argument, ("caffenet", "smoke"))
    config = defaults.get_config()
    config.name = config.model.network = "caffenet" if "caffenet" in words else "bvlc_alexnet"
    config.batch_size = 256
    config.num_steps = 450_000
    config.data.resize = "warp"
    config.data.mean_at = "crop"
    config.data.colour_noise = 0.0
    config.optimizer.unit = "steps"
    config.optimizer.learning_rate = tuple((100_000 * i, 0.01 / 10**i) for i in range(5))
    config.optimizer.bias_learning_rate = tuple((100_000 * i, 0.02 / 10**i) for i in range(5))
    return defaults.smoke(config) if "smoke" in words else config
