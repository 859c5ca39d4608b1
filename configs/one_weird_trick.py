"""The one-tower AlexNet without normalisation, as torchvision trains what it calls AlexNet.

    python -m alexnet_jax.main --config=configs/one_weird_trick.py --config.data.path=DIR

90 epochs in batches of 256 images, the learning rate divided by ten every 30. torchvision reports
43.5% top-1 and 20.9% top-5 error on the central crop. Two things differ here: its crops also change
size and shape, and it decays biases. It has been neither run to its end nor timed here. `:smoke`
takes three steps.
"""

from alexnet_jax.training import defaults


def get_config(argument: str = ""):
    """torchvision's recipe for its AlexNet."""
    words = defaults.options(argument, ("smoke",))
    config = defaults.get_config()
    config.name = config.model.network = "one_weird_trick"
    config.batch_size = 256
    config.num_epochs = 90.0
    config.data.mean = "channel"
    config.data.channel_mean = (123.675, 116.28, 103.53)
    config.data.scale = 57.4  # the mean of torchvision's deviations of the three colours
    config.data.colour_noise = 0.0
    config.optimizer.learning_rate = ((0, 0.01), (30, 0.001), (60, 0.0001))
    config.optimizer.bias_learning_rate = config.optimizer.learning_rate
    config.optimizer.weight_decay = 0.0001
    return defaults.smoke(config) if "smoke" in words else config
