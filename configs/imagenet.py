"""Net 145, the network behind the paper's Table 2, with the schedule its authors ran.

    python -m alexnet_jax.main --config=configs/imagenet.py --config.data.path=DIR --workdir=DIR

DIR holds train/CLASS/* and val/CLASS/*. 91 epochs of ILSVRC-2012 are 910,830 steps of 128 images.
Its authors reached 40.7% top-1 and 18.2% top-5 error with ten views, which makes about 42.6% and
19.7% on the centre view that is evaluated here; this config has not been run to its end yet.
`:paper` takes the paper's text instead of the authors' log: equal rates for all parameters, divided
by ten three times (at net 145's epochs, since the paper names none), each image its own crop.
`:smoke` takes three steps on synthetic images.
"""

from configs import default


def get_config(argument: str = ""):
    """Schedule of net 145: comments of layer-params-145.cfg in the 2012 release."""
    words = default.options(argument, ("paper", "smoke"))
    config = default.get_config()
    config.name = "imagenet"
    config.epochs = 91.0
    config.data.shared_by = 32
    drops = ((0, 0.01), (25, 0.001), (51, 0.0001), (79, 0.00001))
    config.optimizer.weights = drops
    if "paper" in words:
        config.name += "-paper"
        config.data.shared_by = 1
        config.optimizer.biases = drops
    else:
        config.data.colour_noise_epochs = 67.0
        config.optimizer.layers.conv1 = {
            "weights": ((0, 0.01), (25, 0.001), (51, 0.0001), (67, 0.00001), (72, 0.0)),
            "biases": ((0, 0.02), (72, 0.0)),
        }
    return default.smoke(config) if "smoke" in words else config
