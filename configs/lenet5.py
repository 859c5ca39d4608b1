"""LeNet-5 with tanh and mean pooling on the handwritten digits inside scikit-learn.

    python -m alexnet_jax.main --config=configs/lenet5.py

Two cores, under a minute; about 3% of the held-out digits wrong. `:relu` takes ReLU and
max-pooling instead. `:smoke` takes three steps.
"""

from alexnet_jax.training import defaults


def get_config(argument: str = ""):
    """LeNet-5 on 32-pixel grey images; `:relu` and `:smoke`."""
    words = defaults.options(argument, ("relu", "smoke"))
    config = defaults.get_config()
    config.name = "lenet5"
    config.batch_size = 64
    config.num_epochs = 20.0
    config.model.network = "lenet5"
    config.data.source = "digits"
    config.data.image_size = 32
    config.data.flip = False
    config.data.colour_noise = 0.0
    config.data.scale = 78.0  # about the deviation of the pixels
    config.optimizer.learning_rate = ((0, 0.01), (15, 0.001))
    config.optimizer.bias_learning_rate = ((0, 0.01), (15, 0.001))
    config.evaluate.every_epochs = 5.0
    config.checkpoint.every_epochs = 5.0
    if "relu" in words:
        config.name += "-relu"
        config.model.network = "lenet5_relu"
    return defaults.smoke(config) if "smoke" in words else config
