"""Net 145 in large batches and bfloat16, for one large GPU or a few.

    python -m alexnet_jax.main --config=configs/imagenet_fast.py --config.data.path=DIR
    python -m alexnet_jax.main --config=configs/imagenet_fast.py:4096,lars,smoothing,average

The network, its pixels and, counted in epochs, its schedule are those of imagenet.py, so that a
result says what the batch costs and not what another network gains. 1,024 images a step instead of
128, and so all learning rates eight times as high ("linear scaling": Krizhevsky, "One weird trick",
2014; Goyal et al., "Accurate, Large Minibatch SGD", 2017) after a warm-up of five epochs (the
latter).

`:2048`, `:4096` and `:8192` are larger batches, with learning rates in proportion. `:lars` takes
the rule LARS (You, Gitman, Ginsburg 2017, arXiv 1708.03888) and a cosine; its learning rates grow
with the root of the batch size. `:smoothing` spreads a tenth of each label over all classes,
`:average` evaluates and saves a moving average of the parameters over about two epochs.
`--config.grad_accum_steps=4` takes the same steps in four parts where a GPU's memory is short.
`:smoke` takes three steps.

None of it has run on ImageNet yet: it has no error of its own to expect, its numbers are chosen and
not tuned, and imagenet.py is the reference. Tried were steps on synthetic images and batches of 512
digits (docs/results.md). Measured on a GPU was the step of Caffe's network, not of this one: 60,074
images/s in bfloat16 with 512 images on an H200 (docs/performance.md). 91 epochs in three hours are
10,800 images/s, so that decoding would decide; `python -m alexnet_jax benchmark input` measures it.

Published by others, of networks that are not quite this one: 1,024 was as far as AlexNet came
before LARS, 8,192 with it (You et al., Berkeley, digicoll.lib.berkeley.edu/record/137384); 64K gave
58.7% top-1 accuracy after 95 epochs, four minutes on 1,024 P40 (Tencent, arXiv 1807.11205). With
batches of 128, tensorpack's AlexNet gave 58% in 21 hours on two V100.
"""

from alexnet_jax.training import config_files, defaults

REFERENCE = 128  # images per step in 2012, which imagenet.py's learning rates are for
BATCHES = ("2048", "4096", "8192")
IMAGES = 1_281_167  # in an epoch of ILSVRC-2012


def get_config(argument: str = ""):
    """imagenet.py with what large batches need."""
    words = defaults.options(argument, (*BATCHES, "lars", "smoothing", "average", "smoke"))
    config = config_files.load("imagenet")
    config.name = "-".join(["imagenet-fast", *sorted(words - {"smoke"})])
    config.batch_size = max((int(word) for word in words if word in BATCHES), default=1024)
    config.model.dtype = "bfloat16"
    optimizer = config.optimizer
    optimizer.warmup_epochs = 5.0
    scale = config.batch_size / REFERENCE
    if "lars" in words:
        optimizer.rule, optimizer.schedule = "lars", "cosine"
        optimizer.learning_rate = ((0, 5.0 * (config.batch_size / 1024) ** 0.5),)
        optimizer.bias_learning_rate = ((0, 0.02 * scale),)
        del optimizer.layers.conv1
    else:
        for fields in (optimizer, optimizer.layers.conv1):
            for kind in ("learning_rate", "bias_learning_rate"):
                fields[kind] = tuple((epoch, rate * scale) for epoch, rate in fields[kind])
    if "smoothing" in words:
        optimizer.label_smoothing = 0.1
    if "average" in words:
        optimizer.ema_decay = round(1 - config.batch_size / (2 * IMAGES), 5)
    return defaults.smoke(config) if "smoke" in words else config
