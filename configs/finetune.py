"""Fine-tuning: a trained network learns the classes of a folder of your own.

    python -m alexnet_jax.main --config=configs/finetune.py --config.init.from_run=RUN \\
        --config.data.path=DIR

RUN is the folder of a training run, or one of its checkpoints/STEP. DIR holds train/CLASS/* and
val/CLASS/*, any number of classes; if it holds CLASS/* alone, `--config.data.hold_out=5` keeps
every fifth image of each class for validation. All layers but the last are taken from RUN, and so
are network, crops, flips, colour noise, units and mean image, as far as no flag sets them. The new
last layer, and any that `--config.init.skip=fc7` leaves out, learns ten times as fast as the others
(`--config.optimizer.new_layers_factor`); `--config.optimizer.freeze=conv1,conv2` keeps layers as
they are. 30 epochs; docs/results.md has an example. `:smoke` takes three steps.
"""

from ml_collections import config_dict

from alexnet_jax.training import defaults

# Unset, that is as in the run that init.from_run names.
FROM_THE_RUN = {
    "model": ("network", "width", "dropout"),
    "data": ("image_size", "resize", "random_crop", "flip", "colour_noise", "colour_noise_by",
             "colour_noise_divides", "mean", "mean_at", "channel_mean", "units", "scale"),
}  # fmt: skip


def get_config(argument: str = ""):
    """Learning rates of Caffe's finetune_flickr_style: a tenth of a new network's, the last 10x."""
    words = defaults.options(argument, ("smoke",))
    config = defaults.get_config()
    config.name = "finetune"
    config.batch_size = 64
    config.num_epochs = 30.0
    for section, names in FROM_THE_RUN.items():
        for name in names:
            kind = type(config[section][name])
            config[section][name] = config_dict.placeholder(kind)
    config.init.softmax = False
    # Features were learned on pixels less that run's mean image: with another they would shift. So
    # Caffe's example keeps ImageNet's mean too.
    config.init.statistics = True
    config.optimizer.learning_rate = ((0, 0.001), (20, 0.0001))
    config.optimizer.bias_learning_rate = ((0, 0.002), (20, 0.0002))
    config.optimizer.new_layers_factor = 10.0
    config.evaluate.every_epochs = config.checkpoint.every_epochs = 5.0
    return defaults.smoke(config) if "smoke" in words else config
