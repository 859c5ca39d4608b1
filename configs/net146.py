"""Net 146, "1 CNN*" of the paper's Table 2: six convolutions, trained on larger sets first.

    python -m alexnet_jax.main --config=configs/imagenet.py
    python -m alexnet_jax.main --config=configs/net146.py:2009
    python -m alexnet_jax.main --config=configs/net146.py:2011
    python -m alexnet_jax.main --config=configs/net146.py

The authors' chain, each run starting from layers of the one before, which is looked for in
runs/NAME unless `--config.init.from_run=RUN` names it: net 145 on ILSVRC-2012, then `:2009` with
conv1 to conv5 of it on ImageNet's Fall 2009 release (10,184 classes, stopped in epoch 7), then
`:2011` with all six convolutions of that on the 2011 release (21,843 classes, stopped in epoch 9),
then this, which takes all but the softmax layer: 54 epochs of fine-tuning on ILSVRC-2012, 39.0%
top-1 and 16.6% top-5 error with ten views. The larger sets are prepared with `--name=imagenet2009`
and `--name=imagenet2011`, or named by `--config.data.path=DIR`. None of it has been run to its end
or timed here. `:smoke` takes three steps and starts from no run unless one is named.
"""

from alexnet_jax.training import defaults

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6")
FC8_RAISED = 300 * 1024 / 1_281_167  # epochs: after 300 of the authors' files of 1,024 images


def get_config(argument: str = ""):
    """Comments of layer-params-146-2012-2011.cfg; pre-training at net 145's first rates."""
    words = defaults.options(argument, ("2009", "2011", "smoke"))
    config = defaults.get_config()
    config.name = config.model.network = "net146"
    config.data.augmentation_group_size = 32
    if "2009" in words:
        config.name += "-2009"
        config.num_epochs = 6.65
        config.data.name = "imagenet2009"
        config.model.num_classes = 10_184
        config.init.from_run = "runs/imagenet"
        config.init.layers = CONVOLUTIONS[:5]
    elif "2011" in words:
        config.name += "-2011"
        config.num_epochs = 8.11
        config.data.name = "imagenet2011"
        config.model.network = "net146_2011"
        config.model.num_classes = 21_843
        config.init.from_run = "runs/net146-2009"
        config.init.layers = CONVOLUTIONS
    else:
        config.num_epochs = 54.0
        config.data.colour_noise_epochs = 38.0
        config.init.from_run = "runs/net146-2011"
        config.init.layers = (*CONVOLUTIONS, "fc6", "fc7")
        last = ((22, 0.0001), (42, 0.00001))
        config.optimizer.learning_rate = ((0, 0.001), *last)
        config.optimizer.layers.conv1 = {
            "learning_rate": ((0, 0.0001), (5, 0.00001), (7, 0.0)),
            "bias_learning_rate": ((0, 0.02), (7, 0.0)),
        }
        config.optimizer.layers.conv6 = {"bias_learning_rate": ((0, 0.002),)}
        config.optimizer.layers.fc8 = {
            "learning_rate": ((0, 0.001), (FC8_RAISED, 0.01), (9, 0.001), *last)
        }
    if "smoke" in words:
        config.init.from_run = None
        return defaults.smoke(config)
    return config
