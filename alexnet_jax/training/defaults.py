"""Every field of a config, with its unit and the paper's section; configs/ changes a few of them.

Lengths are in epochs; where the field of the same name that ends in _steps is set, it wins.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """Net 145's settings for ImageNet, with a constant learning rate and 90 epochs."""
    config = ConfigDict()
    config.name = "default"  # the run's folder is runs/NAME unless --workdir names another
    config.seed = 0  # of initial parameters, order of images, augmentation and dropout
    config.batch_size = 128  # images per step, over all devices (section 5)
    # A device takes its images in so many parts, one after another, and adds their gradients: the
    # same step in less memory, though not on a CPU
    config.grad_accum_steps = 1

    config.num_epochs = 90.0  # length of the run (section 5: "roughly 90 cycles")
    config.num_steps = config_dict.placeholder(int)  # unset: num_epochs

    config.model = _model()
    parallel = config.parallel = ConfigDict()
    # How a step is divided over devices: "data": each has all parameters and its own examples;
    # "towers": also one tower on each of two devices (section 3.2); "hybrid": as "data", but the
    # units of dense layers are split over all devices.
    parallel.layout = "data"

    # The arithmetic of the network: speed and rounding differ, the run is the same. "tuned",
    # "reference" (plain operations) or names of kernels, such as "tuned,-winograd": KERNELS in
    # alexnet_jax/kernels/config.py has them all.
    config.kernels = "tuned"

    config.data = _data()
    config.optimizer = _optimizer()
    config.guards = _guards()
    config.init = _init()

    evaluate = config.evaluate = ConfigDict()
    # How often the whole validation split is evaluated; a checkpoint follows
    evaluate.every_epochs = 1.0
    evaluate.every_steps = config_dict.placeholder(int)
    # "center": the central crop; "ten": the ten views of section 4.1; "all": every place of the
    # crop, flipped and not
    evaluate.views = "center"

    config.checkpoint = _checkpoint()
    log = config.log = ConfigDict()
    log.every_steps = 50  # steps per line of progress and of metrics.jsonl
    log.pictures_every_epochs = 1.0  # conv1's filters and training images as the network sees them
    log.pictures_every_steps = config_dict.placeholder(int)
    log.histograms_every_epochs = config_dict.placeholder(float)  # of all weights; unset: never
    log.histograms_every_steps = config_dict.placeholder(int)
    return config


def _model() -> ConfigDict:
    """Which network, and its numbers."""
    model = ConfigDict()
    model.network = "net145"  # a name that python -m alexnet_jax model lists (section 3)
    # The layers of a network of your own, as JSON: get_network() in the config's file sets them
    model.layers = config_dict.placeholder(str)
    # 1: one dense tower of equal width (section 3.2); unset: as many as the network has
    model.towers = config_dict.placeholder(int)
    model.width = 1.0  # factor on the numbers of filters and units
    model.num_classes = config_dict.placeholder(int)  # unset: as many as the data has
    model.dropout = True  # section 4.2; False takes the dropout layers out
    # "test": activations times 0.5 when evaluating, as in 2012; "training": times 2 when training;
    # unset: as the network has it
    model.dropout_scales = config_dict.placeholder(str)
    # relu, tanh or sigmoid in place of the network's ReLUs (section 3.1)
    model.activation = config_dict.placeholder(str)
    model.dtype = "float32"  # of activations: float32, bfloat16 or float64
    model.param_dtype = "float32"  # of parameters; float64 needs JAX_ENABLE_X64=1
    return model


def _init() -> ConfigDict:
    """Where the parameters start."""
    init = ConfigDict()
    init.from_run = config_dict.placeholder(str)  # folder of a run whose parameters are taken
    init.layers = ()  # names of the layers that are taken, such as conv1,conv2; empty: all
    init.skip = ()  # names of layers that are not taken
    init.softmax = True  # whether the last layer is taken too; False where the classes differ
    # Factor on the first layer's initial weights (section 5); 255 suits data.units="min_max"
    init.first_weights = 1.0
    # Whether mean image and colours are those of that run's training set instead of this one's
    init.statistics = False
    return init


def _checkpoint() -> ConfigDict:
    """How often checkpoints are saved, and which are kept."""
    checkpoint = ConfigDict()
    checkpoint.every_epochs = 1.0
    checkpoint.every_steps = config_dict.placeholder(int)
    checkpoint.keep = 3  # how many of the newest
    checkpoint.keep_best = 1  # how many of those with the lowest validation top-1 error
    # Those of every so many epochs are kept for good; unset: none
    checkpoint.keep_every_epochs = config_dict.placeholder(float)
    checkpoint.keep_every_steps = config_dict.placeholder(int)
    return checkpoint


def _data() -> ConfigDict:
    """Which images, and what the network sees of them."""
    data = ConfigDict()
    # "folder" of images or of a prepared set; "digits"; "synthetic"; or one of your own code
    data.source = "folder"
    # A prepared set, or a folder with train/CLASS/* and val/CLASS/*; unset: the prepared set called
    # data.name in the folder where tensorflow-datasets keeps its data
    data.path = config_dict.placeholder(str)
    data.name = "imagenet"
    data.validation = "val"  # name of the folder of validation images
    # For a folder CLASS/* without train/ and val/: every so many-th image of a class, by name, is
    # for validation, such as every 5th; 0: the folder has both
    data.hold_out = 0
    data.image_size = 256  # side of the stored image, pixels (section 2)
    # "crop": the shorter side is scaled to image_size and the central square kept (section 2);
    # "warp": both sides are scaled to it, as for Caffe
    data.resize = "crop"
    data.records = 1024  # images of a synthetic split
    data.random_crop = True  # section 4.1; False takes the central crop
    # Instead of that crop one of random area and aspect, resized (Inception's): smallest and
    # largest share of the image's area, such as (0.08, 1.0); empty: the paper's crop
    data.random_resized_crop = ()
    data.flip = True  # section 4.1
    # Images in a row that share crop and flip (section 4.1): 1, or 32 as in the 2012 source
    data.augmentation_group_size = 1
    data.colour_noise = 0.1  # deviation of the factor on each colour component (section 4.1)
    data.colour_noise_epochs = config_dict.placeholder(float)  # off from then on; unset: never
    data.colour_noise_steps = config_dict.placeholder(int)
    # The factor multiplies a component's "deviations", as in the 2012 source, or its "eigenvalues",
    # as in the paper
    data.colour_noise_by = "deviations"
    # Pixels are divided by 1 + colour_noise, as in the 2012 source; the paper has no division
    data.colour_noise_divides = True
    # What is subtracted: the mean "image" (section 2), the mean of each "channel", one "scalar" for
    # all pixels and channels, which net 136 tried ("no better"), or "none".
    data.mean = "image"
    # The part of the mean image that is subtracted: its "center" from every crop, as in 2012, or
    # the part at the "crop"
    data.mean_at = "center"
    data.channel_mean = ()  # red, green, blue in grey levels; empty: as measured
    # After that: "grey_levels" as in 2012, divided by data.scale; "min_max": divided by 255, with
    # mean "none"; "standardise": divided by each channel's deviation, with mean "channel".
    data.units = "grey_levels"
    data.scale = 1.0  # grey levels; 1 leaves units of 0 to 255
    # An image that can't be read: "replace" it by another of its epoch and, when evaluating, count
    # it as wrong, or "stop" the run
    data.on_bad_image = "replace"
    data.num_workers = 0  # batches decoded at a time; 0: one per core
    data.prefetch = 2  # decoded batches that wait for the device
    return data


def _optimizer() -> ConfigDict:
    """The update rule and its learning rates."""
    optimizer = ConfigDict()
    # "momentum" as in section 5, or "lars" for large batches: each weight matrix of a tower moves
    # by a fraction of its own length, which is trust_coefficient times the learning rate;
    # or a rule of optax by its name (adamw, sgd, lion, ...), or one that your own code registers
    optimizer.rule = "momentum"
    optimizer.arguments = ConfigDict()  # of such a rule, such as {"b2": 0.95}
    optimizer.trust_coefficient = 0.001
    optimizer.momentum = 0.9  # section 5; of any rule that has a momentum
    # Gradients longer than this, all as one vector, are shortened to it; unset: none are
    optimizer.clip_norm = config_dict.placeholder(float)
    # bfloat16 halves the velocity's memory; unset: as the parameters
    optimizer.velocity_dtype = config_dict.placeholder(str)
    optimizer.weight_decay = 0.0005  # section 5; weights only
    optimizer.bias_decay = 0.0  # the same for biases, which the 2012 source does not decay
    # Part of each label that is spread over all classes, in training alone, whose "loss" has it too
    optimizer.label_smoothing = 0.0
    # Decay per step of a moving average of the parameters, such as 0.999; the average then is
    # evaluated, saved as the best and used afterwards; 0: no average
    optimizer.ema_decay = 0.0
    # "stepped": the pairs below; "plateau" (section 5), "cosine" or "exponential"
    optimizer.schedule = "stepped"
    optimizer.unit = "epochs"  # of the first number of each pair below: epochs or steps
    # Of weights: pairs (from when, learning rate) (section 5)
    optimizer.learning_rate = ((0, 0.01),)
    # Of biases: the 2012 source has twice that of weights
    optimizer.bias_learning_rate = ((0, 0.02),)
    # What single layers have of their own: {"conv1": {"learning_rate": pairs,
    # "bias_learning_rate": pairs, "weight_decay": number, "factor": number on both learning
    # rates}, ...}
    optimizer.layers = ConfigDict()
    optimizer.freeze = ()  # names of layers that never change, such as conv1,conv2
    # Factor on the learning rates of layers that init.from_run does not have
    optimizer.new_layers_factor = 1.0
    optimizer.warmup_epochs = config_dict.placeholder(float)  # learning rates rise linearly so long
    optimizer.warmup_steps = config_dict.placeholder(int)
    # Section 5: learning rates are divided when the validation error stops improving
    plateau = optimizer.plateau = ConfigDict()
    plateau.patience = 3  # evaluations in a row without a better validation top-1 error
    plateau.factor = 10.0  # learning rates are divided by it
    plateau.times = 3  # at most
    # The authors' automatic schedule of 2013, of weights and of biases: (what the learning rate is
    # divided by in the end, number of learning rates on the way, each as long as the others)
    exponential = optimizer.exponential = ConfigDict()
    exponential.learning_rate = (250.0, 4)
    exponential.bias_learning_rate = (10.0, 2)
    return optimizer


def _guards() -> ConfigDict:
    """What is done about a run that goes wrong."""
    guards = ConfigDict()
    # At a step whose loss or gradient is not finite: "stop" the run, "rollback" to the newest
    # checkpoint and go on with lower learning rates, or "skip" the step's update
    guards.on_divergence = "stop"
    guards.rollback_factor = 2.0  # all learning rates are divided by it, each time
    guards.rollback_times = 3  # at most in a run, then it stops
    # A warning follows when the training loss has been that of guessing, ln(num_classes), for so
    # long; by epochs at least 500 steps
    guards.stalled_epochs = 1.0
    guards.stalled_steps = config_dict.placeholder(int)
    # Minutes after which a process in which no step, evaluation batch or save ended ends itself,
    # with the stacks of its threads; 0: never
    guards.watchdog_minutes = 30.0
    return guards


def cifar(config: ConfigDict) -> None:
    """Set the data fields of the authors' CIFAR-10 networks: whole images, no augmentation."""
    config.data.name = "cifar10"
    config.data.validation = "test"
    config.data.image_size = 32
    config.data.random_crop = False
    config.data.flip = False
    config.data.colour_noise = 0.0


def smoke(config: ConfigDict) -> ConfigDict:
    """Cut the experiment to three steps on eight synthetic images each; returns `config`."""
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
    """The words after the colon of --config=FILE:WORD,WORD; ValueError for one not `allowed`."""
    words = set(filter(None, argument.split(",")))
    if words - set(allowed):
        raise ValueError(
            f"unknown option '{(words - set(allowed)).pop()}' after the config's colon: "
            f"expected one of {', '.join(allowed)}"
        )
    return words
