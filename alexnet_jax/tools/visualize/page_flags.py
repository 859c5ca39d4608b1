"""The flags of each page of python -m alexnet_jax visualize, and what --help says of it."""

from alexnet_jax.runtime.command_flags import Flags


def _output(flags: Flags) -> None:
    flags.string("output", None, "The picture to write: FILE.png or FILE.svg.")


def filters(flags: Flags) -> None:
    """visualize filters --workdir=DIR | --weights=FILE --output=FILE.png

    The kernels of the first layer, tower 1 above tower 2, each scaled by its own largest weight,
    with zero as grey: the paper's Figure 3.
    """
    _output(flags)
    flags.trained_network()
    flags.integer("tile", 88, "Pixels of a kernel, or a little less.", at_least=1)
    flags.switch("raw", False, "The picture alone as a PNG, without labels.")
    flags.switch("grey", False, "Sum each kernel over the colours, as grey images meet it.")


def curves(flags: Flags) -> None:
    """visualize curves --workdir=DIR[,DIR...] --output=FILE.png

    Training and validation error and loss of runs against epochs, from their metrics.jsonl, with
    each fall of the learning rate of the weights. A training error is the mean since the point
    before it, with dropout and augmentation.

    With --form=figure1: training errors alone, solid, dashed and so on, as in the paper's Figure 1,
    and how many epochs each run took to --level.
    """
    _output(flags)
    flags.strings("workdir", [], "Folder of a training run, or of several.")
    flags.choice("error", "top1_error", ["top1_error", "top5_error"], "Which error is drawn.")
    flags.choice("form", "both", ["both", "figure1"], "both splits; figure1: see above.")
    flags.number("level", 0.25, "The training error of --form=figure1.", at_least=0, at_most=1)


def activations(flags: Flags) -> None:
    """visualize activations IMAGE --workdir=DIR | --weights=FILE --output=FILE.png

    An image on its way through the network: each convolution's maps as a grid, tower 1 above
    tower 2, brighter where a map is more active, on one scale a layer; dense units as bars; the
    likeliest classes. Maps with negative values are blue below zero and red above it.
    """
    _output(flags)
    flags.trained_network()
    flags.string("layer", None, "One layer alone, large, such as conv1, conv1.pool or fc6.linear.")


def augmentation(flags: Flags) -> None:
    """visualize augmentation IMAGE --workdir=DIR --output=FILE.png

    Views of an image as training draws them (the paper's section 4.1), by the functions of training
    and with the settings and statistics of a run: where they lie, mirrored, with their colours
    shifted, minus the mean.
    """
    _output(flags)
    flags.string("workdir", None, "Folder of a training run.")
    flags.string("step", None, "Checkpoint that has the settings: best, latest or a number.")
    flags.integer("views", 6, "How many views.", at_least=1, at_most=8)
    flags.number("noise", None, "Strength of the colour noise instead of the run's.", at_least=0)
    flags.integer("seed", 0, "Another seed gives other views.")


def confusion(flags: Flags) -> None:
    """visualize confusion --json=FILE --output=FILE.png

    How many images of each class were taken for which, from the JSON that python -m
    alexnet_jax evaluate --json=FILE writes. Where there are more than 100 classes it has those that
    are confused most.
    """
    _output(flags)
    flags.string("json", None, "File of an evaluation.")


def saliency(flags: Flags) -> None:
    """visualize saliency IMAGE --workdir=DIR | --weights=FILE --output=FILE.png

    Which pixels of the central view a class hangs on: the size of the gradient of its logit, the
    largest of the colours (Simonyan et al. 2013), and its probability while a square is hidden, for
    each place of the square's center (Zeiler and Fergus 2013).
    """
    _output(flags)
    flags.trained_network()
    flags.string("label", None, "Name of the class; unset: the likeliest.")
    flags.integer(
        "square", None, "Side of the square in pixels; unset: a fifth of the view.", at_least=1
    )
    flags.integer("stride", None, "Pixels between places; unset: 28 places a side.", at_least=1)
    flags.integer("batch_size", 32, "Images at a time.", at_least=1)


def maximise(flags: Flags) -> None:
    """visualize maximise --workdir=DIR | --weights=FILE --class=NAME | --layer=NAME --unit=N

    Images that classes or units respond to most, by gradient ascent from noise, with decay, jitter
    and blur (Simonyan et al. 2013, Yosinski et al. 2015). Of a map the unit in its middle is taken,
    and the picture shows what that can see. Below each stands its activation (a class's logit)
    before and after. The same seed gives the same pictures.
    """
    _output(flags)
    flags.trained_network()
    flags.strings("class", [], "Names of classes.")
    flags.string("layer", None, "Name of a layer, such as conv5.")
    flags.strings("unit", [], "Numbers of its units or maps, from 0.")
    flags.integer("seed", 0, "Of the noise at the start and of the jitter.")
    flags.integer("steps", 200, "Steps of the ascent.", at_least=1)
    flags.number("step_size", 4.0, "Change of a step, in grey levels.", at_least=0)
    flags.number(
        "decay", 0.01, "Share of the way back to the mean in a step.", at_least=0, at_most=1
    )
    flags.integer("jitter", 2, "Most pixels that it is moved by.", at_least=0)
    flags.number("blur", 0.5, "Deviation of the blur in pixels.", at_least=0)
    flags.integer("blur_every", 4, "Steps from blur to blur.", at_least=1)
    flags.switch("grey", False, "Keep all colours equal, for networks that saw grey images.")
