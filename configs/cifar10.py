"""cuda-convnet's networks on CIFAR-10, each with its authors' learning rates and decays.

    python -m alexnet_jax.main --config=configs/cifar10.py --config.data.path=DIR

DIR holds train/CLASS/* (50,000 images of 32 x 32 pixels) and test/CLASS/* (10,000). By default the
"18%" net: 120 epochs, then 10 at a tenth of the learning rates and 10 at a hundredth, 18% test
error on the original images, 20.1% here on JPEG copies (docs/results.md); one core, at 1,200
images/s, needs an estimated hour and forty minutes, two an hour. `:80sec` is the "26% in 80
seconds" net, ten epochs; `:13pct` and `:11pct` those with locally connected layers on random crops
of 24 pixels, 520 epochs, far too long for two cores. `:short` takes a fifth of the epochs, and
3 + 3: 23.7% with the "18%" net on the copies. `:smoke` takes three steps.
"""

from alexnet_jax.training import defaults

# First drop by ten, second drop, end, in epochs. The drops of 18pct and 80sec and all of 11pct are
# stated; the others are taken after them.
EPOCHS = {"18pct": (120, 130, 140), "80sec": (8, 10, 10), "13pct": (500, 510, 520),
          "11pct": (500, 510, 520)}  # fmt: skip
# Weight decay of each layer that does not have that of `all`.
DECAYS = {
    "18pct": {"all": 0.004, "fc10": 1.0},
    "80sec": {"all": 0.004, "fc64": 0.03, "fc10": 0.03},
    "13pct": {"all": 0.0, "local3": 0.004, "local4": 0.004, "fc10": 0.004},
    "11pct": {"all": 0.0, "local3": 0.004, "local4": 0.004, "fc10": 0.01},
}


def get_config(argument: str = ""):
    """Learning rates and decays of layer-params-*.cfg of the 2012 release and of cuda-convnet."""
    words = defaults.options(argument, (*EPOCHS, "short", "smoke"))
    net = next(iter(sorted(words & set(EPOCHS))), "18pct")
    config = defaults.get_config()
    config.name = "cifar10" if net == "18pct" else f"cifar10-{net}"
    config.model.network = f"cifar_{net}"
    defaults.cifar(config)
    if net in ("13pct", "11pct"):
        config.data.random_crop = config.data.flip = True
    first, second, end = EPOCHS[net]
    if "short" in words:
        config.name += "-short"
        first, second, end = first / 5, first / 5 + 3, first / 5 + 6
    config.num_epochs = float(end)
    config.optimizer.learning_rate = ((0, 1e-3), (first, 1e-4), (second, 1e-5))
    config.optimizer.bias_learning_rate = ((0, 2e-3), (first, 2e-4), (second, 2e-5))
    config.optimizer.weight_decay = DECAYS[net]["all"]
    for layer, decay in DECAYS[net].items():
        if layer != "all":
            config.optimizer.layers[layer] = {"weight_decay": decay}
    return defaults.smoke(config) if "smoke" in words else config
