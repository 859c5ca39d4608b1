"""Net 145, the network behind the paper's Table 2, with the schedule its authors ran.

    python -m alexnet_jax prepare --source=imagenet_tars:DIR
    python -m alexnet_jax.main --config=configs/imagenet.py

The prepared set is found where tensorflow-datasets keeps its data; --config.data.path=DIR names
another, or a folder with train/CLASS/* and val/CLASS/*. 91 epochs of ILSVRC-2012 are 910,830 steps
of 128 images. Its authors reached 40.7% top-1 and 18.2% top-5 error with ten views, which makes
about 42.6% and 19.7% on the center view that is evaluated here; this config has not been run to its
end yet. A step takes about half a TFLOP: two cores, at some 31 images/s, need six weeks; on a GPU
only Caffe's network was timed (docs/performance.md). `:paper` takes the paper's text literally, the
network included: the same learning rate for all parameters, divided by ten when the validation
error stops improving, at most three times; each image its own crop; colour noise by eigenvalues,
without the source's division. `:2013` takes the authors' later automatic schedule over 95 epochs.
`:smoke` takes three steps on synthetic images.
"""

from alexnet_jax.training import defaults


def get_config(argument: str = ""):
    """Schedule of net 145: comments of layer-params-145.cfg in the 2012 release."""
    words = defaults.options(argument, ("paper", "2013", "smoke"))
    config = defaults.get_config()
    config.name = "imagenet"
    config.num_epochs = 91.0
    config.data.augmentation_group_size = 32
    config.data.colour_noise_epochs = 67.0
    if "paper" in words:
        config.name += "-paper"
        config.model.network = "paper"
        config.data.augmentation_group_size = 1
        config.data.colour_noise_epochs = None
        config.data.colour_noise_by = "eigenvalues"
        config.data.colour_noise_divides = False
        config.optimizer.schedule = "plateau"
        config.optimizer.bias_learning_rate = config.optimizer.learning_rate
    elif "2013" in words:
        config.name += "-2013"
        config.num_epochs = 95.0
        config.optimizer.schedule = "exponential"
        config.optimizer.layers.conv1 = {
            "learning_rate": ((0, 0.01), (72, 0.0)),
            "bias_learning_rate": ((0, 0.02), (72, 0.0)),
        }
    else:
        config.optimizer.learning_rate = ((0, 0.01), (25, 0.001), (51, 0.0001), (79, 0.00001))
        config.optimizer.layers.conv1 = {
            "learning_rate": ((0, 0.01), (25, 0.001), (51, 0.0001), (67, 0.00001), (72, 0.0)),
            "bias_learning_rate": ((0, 0.02), (72, 0.0)),
        }
    return defaults.smoke(config) if "smoke" in words else config
