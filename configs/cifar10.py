"""The "18% error" net of cuda-convnet on CIFAR-10.

    python -m alexnet_jax.main --config=configs/cifar10.py --config.data.path=DIR

DIR holds train/CLASS/* (50,000 images of 32 x 32 pixels) and test/CLASS/* (10,000). Its authors'
schedule: 120 epochs, then 10 at a tenth of the rates and 10 at a hundredth, 18% test error on the
original images; two cores, at some 800 images/s, need two and a half hours. `:short` takes
24 + 3 + 3 epochs: half an hour, 23.7% on JPEG copies (docs/results.md). `:smoke` takes three steps
on synthetic images.
"""

from configs import default


def get_config(argument: str = ""):
    """Rates and decays of layer-params-18pct.cfg in the 2012 release; no augmentation."""
    words = default.options(argument, ("short", "smoke"))
    short = "short" in words
    config = default.get_config()
    config.name = "cifar10-short" if short else "cifar10"
    first, second, end = (24, 27, 30) if short else (120, 130, 140)
    config.epochs = float(end)
    config.model.network = "cifar_18pct"
    config.data.validation = "test"
    config.data.size = 32
    config.data.random_crop = False
    config.data.flip = False
    config.data.colour_noise = 0.0
    config.optimizer.weights = ((0, 1e-3), (first, 1e-4), (second, 1e-5))
    config.optimizer.biases = ((0, 2e-3), (first, 2e-4), (second, 2e-5))
    config.optimizer.weight_decay = 0.004
    config.optimizer.layers.fc10 = {"weight_decay": 1.0}
    return default.smoke(config) if "smoke" in words else config
