"""The flags of each page of python -m alexnet_jax visualize, and what --help says of it."""

from absl import flags

from alexnet_jax.runtime import cli


def _output() -> None:
    flags.DEFINE_string("output", None, "The picture to write: FILE.png or FILE.svg.")


def filters() -> None:
    """visualize filters --workdir=DIR | --weights=FILE --output=FILE.png

    The kernels of the first layer, tower 1 above tower 2, each scaled by its own largest weight,
    with zero as grey: the paper's Figure 3.
    """
    _output()
    cli.define_trained_flags()
    flags.DEFINE_integer("tile", 88, "Pixels of a kernel, or a little less.", lower_bound=1)
    flags.DEFINE_bool("raw", False, "The picture alone as a PNG, without labels.")
    flags.DEFINE_bool("grey", False, "Sum each kernel over the colours, as grey images meet it.")


def curves() -> None:
    """visualize curves --workdir=DIR[,DIR...] --output=FILE.png

    Training and validation error and loss of runs against epochs, from their metrics.jsonl, with
    each fall of the learning rate of the weights. A training error is the mean since the point
    before it, with dropout and augmentation.

    With --form=figure1: training errors alone, solid, dashed and so on, as in the paper's Figure 1,
    and how many epochs each run took to --level.
    """
    _output()
    flags.DEFINE_list("workdir", [], "Folder of a training run, or of several.")
    flags.DEFINE_enum("error", "top1_error", ["top1_error", "top5_error"], "Which error is drawn.")
    flags.DEFINE_enum("form", "both", ["both", "figure1"], "both splits; figure1: see above.")
    flags.DEFINE_float(
        "level", 0.25, "The training error of --form=figure1.", lower_bound=0, upper_bound=1
    )


def activations() -> None:
    """visualize activations IMAGE --workdir=DIR | --weights=FILE --output=FILE.png

    An image on its way through the network: each convolution's maps as a grid, tower 1 above
    tower 2, brighter where a map is more active, on one scale a layer; dense units as bars; the
    likeliest classes. Maps with negative values are blue below zero and red above it.
    """
    _output()
    cli.define_trained_flags()
    flags.DEFINE_string(
        "layer", None, "One layer alone, large, such as conv1, conv1.pool or fc6.linear."
    )


def augmentation() -> None:
    """visualize augmentation IMAGE --workdir=DIR --output=FILE.png

    Views of an image as training draws them (the paper's section 4.1), by the functions of training
    and with the settings and statistics of a run: where they lie, mirrored, with their colours
    shifted, minus the mean.
    """
    _output()
    flags.DEFINE_string("workdir", None, "Folder of a training run.")
    flags.DEFINE_string("step", None, "Checkpoint that has the settings: best, latest or a number.")
    flags.DEFINE_integer("views", 6, "How many views.", lower_bound=1, upper_bound=8)
    flags.DEFINE_float(
        "noise", None, "Strength of the colour noise instead of the run's.", lower_bound=0
    )
    flags.DEFINE_integer("seed", 0, "Another seed gives other views.")


def confusion() -> None:
    """visualize confusion --json=FILE --output=FILE.png

    How many images of each class were taken for which, from the JSON that python -m
    alexnet_jax evaluate --json=FILE writes. Where there are more than 100 classes it has those that
    are confused most.
    """
    _output()
    flags.DEFINE_string("json", None, "File of an evaluation.")


def saliency() -> None:
    """visualize saliency IMAGE --workdir=DIR | --weights=FILE --output=FILE.png

    Which pixels of the central view a class hangs on: the size of the gradient of its logit, the
    largest of the colours (Simonyan et al. 2013), and its probability while a square is hidden, for
    each place of the square's centre (Zeiler and Fergus 2013).
    """
    _output()
    cli.define_trained_flags()
    flags.DEFINE_string("label", None, "Name of the class; unset: the likeliest.")
    flags.DEFINE_integer(
        "square", None, "Side of the square in pixels; unset: a fifth of the view.", lower_bound=1
    )
    flags.DEFINE_integer(
        "stride", None, "Pixels between places; unset: 28 places a side.", lower_bound=1
    )
    flags.DEFINE_integer("batch", 32, "Images at a time.", lower_bound=1)


def maximise() -> None:
    """visualize maximise --workdir=DIR | --weights=FILE --class=NAME | --layer=NAME --unit=N

    Images that classes or units respond to most, by gradient ascent from noise, with decay, jitter
    and blur (Simonyan et al. 2013, Yosinski et al. 2015). Of a map the unit in its middle is taken,
    and the picture shows what that can see. Below each stands its activation (a class's logit)
    before and after. The same seed gives the same pictures.
    """
    _output()
    cli.define_trained_flags()
    flags.DEFINE_list("class", [], "Names of classes.")
    flags.DEFINE_string("layer", None, "Name of a layer, such as conv5.")
    flags.DEFINE_list("unit", [], "Numbers of its units or maps, from 0.")
    flags.DEFINE_integer("seed", 0, "Of the noise at the start and of the jitter.")
    flags.DEFINE_integer("steps", 200, "Steps of the ascent.", lower_bound=1)
    flags.DEFINE_float("rate", 4.0, "Change of a step, in grey levels.", lower_bound=0)
    flags.DEFINE_float(
        "decay", 0.01, "Share of the way back to the mean in a step.", lower_bound=0, upper_bound=1
    )
    flags.DEFINE_integer("jitter", 2, "Most pixels that it is moved by.", lower_bound=0)
    flags.DEFINE_float("blur", 0.5, "Deviation of the blur in pixels.", lower_bound=0)
    flags.DEFINE_integer("blur_every", 4, "Steps from blur to blur.", lower_bound=1)
    flags.DEFINE_bool("grey", False, "Keep all colours equal, for networks that saw grey images.")
