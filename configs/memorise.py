"""Can it learn at all? Net 145 on a few photographs, without dropout and augmentation.

    python -m alexnet_jax.main --config=configs/memorise.py --config.data.path=DIR --workdir=DIR

DIR holds train/CLASS/* and val/CLASS/*, say 64 photographs, the same ones in both. Two cores,
under three minutes. A sound network first reaches training error 0 in twenty to thirty-five steps,
a broken one never does.
"""

from alexnet_jax.training import defaults


def get_config(argument: str = ""):
    """Forty steps of net 145 at a constant learning rate on central crops; `:smoke` takes three."""
    words = defaults.options(argument, ("smoke",))
    config = defaults.get_config()
    config.name = "memorise"
    config.batch_size = 64
    config.num_steps = 40
    config.model.num_classes = 1000
    config.model.dropout = False
    config.data.random_crop = False
    config.data.flip = False
    config.data.colour_noise = 0.0
    config.evaluate.every_steps = 20
    config.checkpoint.every_steps = 40
    config.log.every_steps = 1
    return defaults.smoke(config) if "smoke" in words else config
