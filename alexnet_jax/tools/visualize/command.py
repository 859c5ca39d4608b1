"""Pictures for people: python -m alexnet_jax visualize PAGE [FLAGS] --output=FILE.png|.svg

  filters        the first layer's kernels, tower 1 above tower 2 (the paper's Figure 3)
  curves         error and loss of runs against epochs; --form=figure1 is the paper's Figure 1
  activations    an image on its way through the network, layer by layer
  augmentation   how training crops, mirrors and tints an image
  confusion      which classes are taken for which
  saliency       which pixels a class hangs on, by gradients and by hiding them
  maximise       the image that a class or unit responds to most

PAGE --help lists the flags of a page. TensorFlow is not needed.
"""

import difflib
import inspect
import pathlib
import sys

from absl import flags

from alexnet_jax.runtime import cli
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.visualize import page_flags


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    pages = {
        "filters": (page_flags.filters, _filters),
        "curves": (page_flags.curves, _curves),
        "activations": (page_flags.activations, _activations),
        "augmentation": (page_flags.augmentation, _augmentation),
        "confusion": (page_flags.confusion, _confusion),
        "saliency": (page_flags.saliency, _saliency),
        "maximise": (page_flags.maximise, _maximise),
    }
    page = sys.argv[1] if len(sys.argv) > 1 else ""
    if page in ("--help", "-help", "-h"):
        print(__doc__)
        return
    if page not in pages:
        near = difflib.get_close_matches(page, pages, n=1)
        said = f"There is no page '{page}'" if page else "No page was named"
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{said}: {hint}The first word is one of {', '.join(pages)}.")
    define, draw = pages[page]
    usage = inspect.cleandoc(define.__doc__) + "\n"
    rest = cli.parse([sys.argv[0], *sys.argv[2:]], usage, lambda: _define(define), arguments=True)
    output = _output()
    cli.alone(lambda: _write(output, draw(rest)))


def _define(define) -> None:
    define()
    for module in (page_flags, cli):
        flags.adopt_module_key_flags(module)


def _output() -> pathlib.Path:
    from alexnet_jax.tools.visualize import figure

    if not flags.FLAGS.output:
        raise UserError("Where to? Add --output=FILE, with a name that ends in .png or .svg.")
    path = pathlib.Path(flags.FLAGS.output)
    figure.check_path(path)
    return path


def _write(path: pathlib.Path, drawn) -> None:
    """Write a figure, or bare pixels, and say so."""
    import numpy as np

    from alexnet_jax.tools.visualize import figure

    if isinstance(drawn, np.ndarray):
        figure.write_pixels(drawn, path)
    else:
        figure.write(drawn, path)
    print(figure.written(path))


def _no_image(rest: list[str]) -> None:
    if rest:
        raise UserError(f"'{rest[0]}' was not understood: flags look like --name=value.")


def _trained():
    from alexnet_jax.tools import load

    given = flags.FLAGS
    return load.from_flags(given.workdir, given.step, given.weights)


def _one_image(rest: list[str]) -> str:
    if len(rest) != 1:
        raise UserError(f"Expected the file of one image, but {len(rest)} were named.")
    return rest[0]


def _load(file: str, size: int, channels: int, warp: bool):
    """uint8 [size, size, channels] as the network's training and prediction read it."""
    from alexnet_jax.data import image_files

    return image_files.loader([file], size, channels, warp)(0)


def _load_for(trained, file: str):
    pixels = trained.pixels
    return _load(file, pixels.size, trained.architecture.channels, pixels.warp)


def _filters(rest: list[str]):
    from alexnet_jax.tools.visualize import filters

    _no_image(rest)
    given, trained = flags.FLAGS, _trained()
    name, kernel = filters.first_kernel(trained)
    if given.raw:
        return filters.picture(kernel, given.tile, given.grey)
    return filters.draw(name, kernel, given.tile, given.grey, trained.variant.network)


def _curves(rest: list[str]):
    from alexnet_jax.tools.visualize import curves

    _no_image(rest)
    given = flags.FLAGS
    if not all(given.workdir) or not given.workdir:
        raise UserError("No run was named: add --workdir=DIR or --workdir=DIR,DIR,...")
    runs = curves.read(given.workdir)
    if given.form == "figure1":
        print(curves.comparison(runs, given.level))
        return curves.draw_figure1(runs, given.level)
    return curves.draw(runs, given.error)


def _activations(rest: list[str]):
    from alexnet_jax.tools.visualize import activations

    file, layer, trained = _one_image(rest), flags.FLAGS.layer, _trained()
    image = _load_for(trained, file)
    if layer is not None:
        (seen,) = activations.look(trained, image, [layer])
        return activations.draw_one(seen, f"{trained.variant.network}, {pathlib.Path(file).name}")
    last = trained.architecture.layers[-1].name
    *seen, logits = activations.look(trained, image, [*activations.layer_names(trained), last])
    return activations.draw_all(trained, image, seen, logits.values[0])


def _augmentation(rest: list[str]):
    import dataclasses

    from alexnet_jax.tools.visualize import augmentation

    given, file = flags.FLAGS, _one_image(rest)
    if not given.workdir:
        raise UserError("No run was named: add --workdir=DIR, the folder of a training run.")
    recipe = augmentation.recipe_of(pathlib.Path(given.workdir), given.step)
    if given.noise is not None:
        recipe = dataclasses.replace(recipe, noise=given.noise)
    image = _load(file, recipe.size, recipe.channels, recipe.warp)
    return augmentation.draw(
        recipe, image, augmentation.views_of(recipe, image, given.views, given.seed)
    )


def _confusion(rest: list[str]):
    from alexnet_jax.tools.visualize import confusion

    _no_image(rest)
    if not flags.FLAGS.json:
        raise UserError(
            "Whose confusions? Add --json=FILE, which python -m alexnet_jax evaluate --workdir=DIR "
            "--json=FILE writes."
        )
    return confusion.draw(confusion.read(pathlib.Path(flags.FLAGS.json)))


def _saliency(rest: list[str]):
    import numpy as np

    from alexnet_jax.data import augment, synsets
    from alexnet_jax.runtime.terminal import ProgressLine, Terminal
    from alexnet_jax.tools import inference
    from alexnet_jax.tools.visualize import classes, figure, saliency

    given, file, trained = flags.FLAGS, _one_image(rest), _trained()
    crop = trained.architecture.input_size
    square, stride = given.square or max(1, crop // 5), given.stride or max(1, crop // 28)
    if max(square, stride) > crop:
        raise UserError(
            f"--square={square} and --stride={stride} must be at most the {crop} pixels that "
            f"{trained.variant.network} sees."
        )
    wanted = None if given.label is None else classes.find(trained, given.label)
    image = _load_for(trained, file)
    predicted = inference.log_probabilities(trained)(trained.parameters, image[None])[0]
    probabilities = np.exp(np.asarray(predicted))
    label = int(probabilities.argmax()) if wanted is None else wanted
    with Terminal() as terminal:
        hidden = saliency.occlusion(
            trained, image, label, square, stride, given.batch, ProgressLine("occlusion", terminal)
        )
    name = figure.shortened(synsets.words(trained.classes[label]), 28)
    return saliency.draw(
        augment.center_crop(image, crop),
        f"{name}: {probabilities[label]:.1%}",
        saliency.saliency(saliency.gradient(trained, image, label)),
        hidden,
        square,
        stride,
    )


def _maximise(rest: list[str]):
    from alexnet_jax.data import synsets
    from alexnet_jax.runtime.terminal import ProgressLine, Terminal
    from alexnet_jax.tools.visualize import classes, maximise

    _no_image(rest)
    given = flags.FLAGS
    wanted = given["class"].value
    if bool(wanted) == bool(given.unit) or bool(given.layer) != bool(given.unit):
        raise UserError(
            "What is to be maximised? Name classes with --class=NAME,... or units with "
            "--layer=NAME --unit=N,..., one of the two."
        )
    how = maximise.Ascent(
        given.steps, given.rate, given.decay, given.jitter, given.blur, given.blur_every, given.grey
    )
    trained = _trained()
    if wanted:
        layer = trained.architecture.layers[-1].name
        units = [classes.find(trained, name) for name in wanted]
        names = [synsets.words(trained.classes[unit]) for unit in units]
    else:
        layer, units = given.layer, classes.numbers("unit", given.unit)
        names = [f"{layer}, unit {unit}" for unit in units]
    with Terminal() as terminal:
        progress = ProgressLine("gradient ascent", terminal, "steps")
        found = maximise.ascend(trained, layer, units, how, given.seed, progress)
    return maximise.draw(found, names)


if __name__ == "__main__":
    main()
