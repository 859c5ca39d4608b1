"""Every field with its unit and the paper's section; the other configs change a few of them.

Lengths are given in epochs; the field of the same name that ends in _steps wins where it is set.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """Net 145's settings for ImageNet, without an end and without its stepped rates."""
    config = ConfigDict()
    config.name = "default"  # the run lives in runs/NAME unless --workdir is given
    config.seed = 0  # of parameters, order of images, augmentation and dropout
    config.batch_size = 128  # images a step, over all devices (section 5)
    # Parts of a device's images, one after another: the same step in less memory, though not on CPU
    config.grad_accum_steps = 1

    config.num_epochs = 90.0  # length of the run (section 5: "roughly 90 cycles")
    config.num_steps = config_dict.placeholder(int)

    model = config.model = ConfigDict()
    model.network = "net145"  # a name that python -m alexnet_jax.model lists
    model.towers = config_dict.placeholder(int)  # 1 makes it dense; unset: as the network says
    model.width = 1.0  # factor on filters and units
    model.num_classes = config_dict.placeholder(int)  # unset: as many as the data has
    model.dropout = True  # section 4.2; False takes the dropout layers out
    # "test" multiplies by 0.5 when evaluating as in 2012, "training" by 2 when training; unset: as
    # the network says
    model.dropout_scales = config_dict.placeholder(str)
    model.activation = config_dict.placeholder(str)  # relu, tanh or sigmoid instead of its ReLUs
    model.dtype = "float32"  # of activations: float32 or bfloat16 (or float64)
    model.param_dtype = "float32"  # of parameters; float64 needs JAX_ENABLE_X64=1

    parallel = config.parallel = ConfigDict()
    # How a step is divided over devices: "data" gives each its own rows, "towers" also one tower to
    # each of two (section 3.2), "hybrid" splits the dense layers where "data" repeats them.
    parallel.layout = "data"

    # The arithmetic of the same network, and so of the same run: speed and rounding differ. "tuned",
    # "reference" (plain operations), or names of kernels, such as "tuned,-winograd": kernels/config.py
    config.kernels = "tuned"

    config.data = _data()
    config.optimizer = _optimizer()
    config.guards = _guards()
    init = config.init = ConfigDict()
    init.from_run = config_dict.placeholder(str)  # start from the parameters of this run's folder
    init.layers = ()  # of these layers alone, such as conv1,conv2; empty: of all
    init.skip = ()  # but not of these
    init.softmax = True  # of the last layer too; False where the classes are others
    init.first_weights = 1.0  # factor on the first layer's; 255 suits data.units="min_max"
    # With the mean image and colours of that run's training set instead of this one's
    init.statistics = False

    evaluate = config.evaluate = ConfigDict()
    evaluate.every_epochs = 1.0  # of the whole validation split; a checkpoint follows
    evaluate.every_steps = config_dict.placeholder(int)
    # The "center" view, "ten" views as in 2012 (section 4.1) or "all" places, flipped and not.
    evaluate.views = "center"

    checkpoint = config.checkpoint = ConfigDict()
    checkpoint.every_epochs = 1.0
    checkpoint.every_steps = config_dict.placeholder(int)
    checkpoint.keep = 3  # newest checkpoints kept
    checkpoint.keep_best = 1  # and those with the lowest validation top-1 error
    checkpoint.keep_every_epochs = config_dict.placeholder(float)  # and these, saved for good
    checkpoint.keep_every_steps = config_dict.placeholder(int)

    log = config.log = ConfigDict()
    log.every_steps = 50  # one line of progress and of metrics.jsonl
    log.pictures_every_epochs = 1.0  # conv1's filters and training images as the network sees them
    log.pictures_every_steps = config_dict.placeholder(int)
    log.histograms_every_epochs = config_dict.placeholder(float)  # of all weights; unset: never
    log.histograms_every_steps = config_dict.placeholder(int)
    return config


def _data() -> ConfigDict:
    """Which images, and what the network sees of them."""
    data = ConfigDict()
    data.source = "folder"  # of a prepared set or of images; or digits, or synthetic
    # A prepared set, or a folder with train/CLASS/* and val/CLASS/*; unset: the prepared set of
    # this name where tensorflow-datasets keeps its data
    data.path = config_dict.placeholder(str)
    data.name = "imagenet"
    data.validation = "val"  # name of the second folder of images
    # A folder CLASS/* without train/ and val/: every so many-th image of a class, by name, is for
    # validation, such as every 5th; 0: the folder has both
    data.hold_out = 0
    data.image_size = 256  # side of the stored image, pixels (section 2)
    data.resize = "crop"  # shorter side to it and the centre cut out, or "warp" as for Caffe
    data.records = 1024  # images of a synthetic split
    data.random_crop = True  # section 4.1; False takes the centre
    data.flip = True  # section 4.1
    data.augmentation_group_size = (
        1  # images in a run that share crop and flip: 1, or 32 as in 2012
    )
    data.colour_noise = 0.1  # deviation of the factor on each colour component (section 4.1)
    data.colour_noise_epochs = config_dict.placeholder(float)  # switched off then; unset: never
    data.colour_noise_steps = config_dict.placeholder(int)
    data.colour_noise_by = "deviations"  # of the components, as in 2012, or the paper's eigenvalues
    data.colour_noise_divides = True  # by 1 + colour_noise, as in 2012; the paper has no division
    # What is subtracted: the mean "image" (section 2), the mean of each "channel", one "scalar" for
    # all pixels and channels, which net 136 tried ("no better"), or "none".
    data.mean = "image"
    data.mean_at = "center"  # of the mean image, for every crop as in 2012, or at the "crop"
    data.channel_mean = ()  # red, green, blue in grey levels; empty: as measured
    # After that: "grey_levels" as in 2012, divided by `scale`; "min_max" / 255, with mean "none";
    # "standardise" / the deviation of each channel, with mean "channel".
    data.units = "grey_levels"
    data.scale = 1.0  # 1 leaves units of 0 to 255
    # An image that can't be read: replace it by another of its epoch and, when evaluating, count it
    # as wrong, or stop the run
    data.on_bad_image = "replace"
    data.num_workers = 0  # batches decoded at a time; 0: one a core
    data.prefetch = 2  # decoded batches that wait
    return data


def _optimizer() -> ConfigDict:
    """The update rule and its rates."""
    optimizer = ConfigDict()
    # "momentum" as in section 5, or "lars" for large batches: each weight matrix of a tower moves
    # by a fraction of its own length, which is trust_coefficient times the rate
    optimizer.rule = "momentum"
    optimizer.trust_coefficient = 0.001
    optimizer.momentum = 0.9  # section 5
    # bfloat16 halves the velocity's memory; unset: as the parameters
    optimizer.velocity_dtype = config_dict.placeholder(str)
    optimizer.weight_decay = 0.0005  # section 5; weights only
    optimizer.bias_decay = 0.0  # the same for biases, which the 2012 source does not decay
    # This part of each label is spread over all classes, in training alone, whose "loss" has it too
    optimizer.label_smoothing = 0.0
    # Decay of a moving average of the parameters over steps, such as 0.999, which then is what is
    # evaluated, saved as the best and used afterwards; 0: none
    optimizer.ema_decay = 0.0
    optimizer.schedule = "stepped"  # stepped as given below, plateau, cosine or exponential
    optimizer.unit = "epochs"  # of the first number of each pair below: epochs or steps
    optimizer.learning_rate = ((0, 0.01),)  # pairs (from when, learning rate)
    optimizer.bias_learning_rate = ((0, 0.02),)  # the 2012 source gives biases twice the rate
    # What single layers have of their own: {"conv1": {"learning_rate": pairs, "bias_learning_rate": pairs,
    # "weight_decay": number, "factor": number on both rates}, ...}
    optimizer.layers = ConfigDict()
    optimizer.freeze = ()  # layers that stand still from the first step on, such as conv1,conv2
    optimizer.new_layers_factor = 1.0  # on the rates of layers that init.from_run doesn't give
    optimizer.warmup_epochs = config_dict.placeholder(float)  # rates grow linearly until then
    optimizer.warmup_steps = config_dict.placeholder(int)
    plateau = optimizer.plateau = ConfigDict()  # section 5: divided when the error stops improving
    plateau.patience = 3  # evaluations in a row without a better validation top-1 error
    plateau.factor = 10.0  # the rates are divided by it
    plateau.times = 3  # at most
    exponential = optimizer.exponential = ConfigDict()  # the authors' automatic schedule of 2013
    exponential.learning_rate = (
        250.0,
        4,
    )  # divided by 250 in the end, in four rates of equal length
    exponential.bias_learning_rate = (10.0, 2)
    return optimizer


def _guards() -> ConfigDict:
    """What is done about a run that goes wrong."""
    guards = ConfigDict()
    # At a step whose loss or gradient is not finite: stop the run, rollback to the newest
    # checkpoint and go on with lower rates, or skip its update
    guards.on_divergence = "stop"
    guards.rollback_factor = 2.0  # all learning rates are divided by it, each time
    guards.rollback_times = 3  # at most in a run, then it stops
    # Warned of when the training loss has been that of guessing, ln(classes), for so long; by
    # epochs at least 500 steps
    guards.stalled_epochs = 1.0
    guards.stalled_steps = config_dict.placeholder(int)
    # A process in which no step, evaluation batch or save ends for so long ends itself, with the
    # stacks of its threads; 0: never
    guards.watchdog_minutes = 30.0
    return guards


def cifar(config: ConfigDict) -> None:
    """Data settings of the authors' CIFAR-10 networks: whole images, no augmentation."""
    config.data.name = "cifar10"
    config.data.validation = "test"
    config.data.image_size = 32
    config.data.random_crop = False
    config.data.flip = False
    config.data.colour_noise = 0.0


def smoke(config: ConfigDict) -> ConfigDict:
    """The same experiment cut to three steps on eight synthetic images a batch."""
    config.name += "-smoke"
    config.batch_size = 8
    config.num_steps = 3
    if config.data.source == "folder":
        config.data.source = "synthetic"
    config.data.records = 16
    config.optimizer.warmup_epochs = None  # longer than this run
    config.log.every_steps = 1
    return config


def options(argument: str, allowed: tuple[str, ...]) -> set[str]:
    """The words after the colon of --config=FILE:WORD,WORD, checked."""
    words = set(filter(None, argument.split(",")))
    if words - set(allowed):
        raise ValueError(
            f"unknown option '{(words - set(allowed)).pop()}' after the config's colon: "
            f"expected one of {', '.join(allowed)}"
        )
    return words
