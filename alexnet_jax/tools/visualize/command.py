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

import argparse
import dataclasses
import inspect
import pathlib
import sys

from alexnet_jax.runtime import cli, command_flags
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
    page, argv = cli.choose("page", sys.argv, __doc__, pages)
    define, draw = pages[page]
    usage = inspect.getdoc(define) or ""
    args, images = command_flags.parse(argv, usage, define, arguments=True)
    output = _output(args)
    cli.alone(lambda: _write(output, draw(args, images)))


def _output(args: argparse.Namespace) -> pathlib.Path:
    from alexnet_jax.tools.visualize import figure

    if not args.output:
        raise UserError("Where to? Add --output=FILE, with a name that ends in .png or .svg.")
    path = pathlib.Path(args.output)
    figure.check_figure_path(path)
    return path


def _write(path: pathlib.Path, drawn) -> None:
    """Write a figure, or bare pixels, and say so."""
    import numpy as np

    from alexnet_jax.tools.visualize import figure

    if isinstance(drawn, np.ndarray):
        figure.write_pixels(drawn, path)
    else:
        figure.write_figure(drawn, path)
    print(figure.written_line(path))


def _no_image(images: list[str]) -> None:
    if images:
        raise UserError(f"'{images[0]}' was not understood: flags look like --name=value.")


def _trained(args: argparse.Namespace):
    from alexnet_jax.tools import load

    return load.from_flags(args.workdir, args.step, args.weights)


def _one_image(images: list[str]) -> str:
    if len(images) != 1:
        raise UserError(f"Expected the file of one image, but {len(images)} were named.")
    return images[0]


def _load(file: str, size: int, channels: int, warp: bool):
    """uint8 [size, size, channels] as the network's training and prediction read it."""
    from alexnet_jax.data import image_files

    return image_files.loader([file], size, channels, warp)(0)


def _load_for(trained, file: str):
    pixels = trained.pixels
    return _load(file, pixels.size, trained.architecture.channels, pixels.warp)


def _filters(args: argparse.Namespace, images: list[str]):
    from alexnet_jax.tools.visualize import filters

    _no_image(images)
    trained = _trained(args)
    name, kernel = filters.first_kernel(trained)
    if args.raw:
        return filters.picture(kernel, args.tile, args.grey)
    return filters.draw_filters(
        kernel, name=name, network=trained.variant.network, tile=args.tile, grey=args.grey
    )


def _curves(args: argparse.Namespace, images: list[str]):
    from alexnet_jax.tools.visualize import curves

    _no_image(images)
    if not all(args.workdir) or not args.workdir:
        raise UserError("No run was named: add --workdir=DIR or --workdir=DIR,DIR,...")
    runs = curves.read_curves(args.workdir)
    if args.form == "figure1":
        print(curves.epochs_comparison(runs, args.level))
        return curves.draw_figure1(runs, args.level)
    return curves.draw_curves(runs, args.error)


def _activations(args: argparse.Namespace, images: list[str]):
    from alexnet_jax.tools.visualize import activations

    file, layer, trained = _one_image(images), args.layer, _trained(args)
    image = _load_for(trained, file)
    if layer is not None:
        (captured,) = activations.capture_layers(trained, image, [layer])
        return activations.draw_layer(
            captured, f"{trained.variant.network}, {pathlib.Path(file).name}"
        )
    last = trained.architecture.layers[-1].name
    names = [*activations.layer_names(trained), last]
    *layers, logits = activations.capture_layers(trained, image, names)
    return activations.draw_layers(trained, image, layers, logits.values[0])


def _augmentation(args: argparse.Namespace, images: list[str]):
    from alexnet_jax.tools.visualize import augmentation

    file = _one_image(images)
    if not args.workdir:
        raise UserError("No run was named: add --workdir=DIR, the folder of a training run.")
    recipe = augmentation.recipe_of(pathlib.Path(args.workdir), args.step)
    if args.noise is not None:
        recipe = dataclasses.replace(recipe, noise=args.noise)
    image = _load(file, recipe.size, recipe.channels, recipe.warp)
    return augmentation.draw_augmentation(
        recipe, image, augmentation.augmented_crops(recipe, image, args.views, args.seed)
    )


def _confusion(args: argparse.Namespace, images: list[str]):
    from alexnet_jax.tools.visualize import confusion

    _no_image(images)
    if not args.json:
        raise UserError(
            "Whose confusions? Add --json=FILE, which python -m alexnet_jax evaluate --workdir=DIR "
            "--json=FILE writes."
        )
    return confusion.draw_confusion(confusion.read_confusion(pathlib.Path(args.json)))


def _saliency(args: argparse.Namespace, images: list[str]):
    import numpy as np

    from alexnet_jax.data import augment, synsets
    from alexnet_jax.runtime.terminal import ProgressLine, Terminal
    from alexnet_jax.tools import inference
    from alexnet_jax.tools.visualize import classes, figure, saliency

    file, trained = _one_image(images), _trained(args)
    crop = trained.architecture.input_size
    square, stride = args.square or max(1, crop // 5), args.stride or max(1, crop // 28)
    if max(square, stride) > crop:
        raise UserError(
            f"--square={square} and --stride={stride} must be at most the {crop} pixels that "
            f"{trained.variant.network} sees."
        )
    chosen_label = None if args.label is None else classes.find_label(trained, args.label)
    image = _load_for(trained, file)
    predicted = inference.log_probabilities(trained)(trained.parameters, image[None])[0]
    probabilities = np.exp(np.asarray(predicted))
    label = int(probabilities.argmax()) if chosen_label is None else chosen_label
    with Terminal() as terminal:
        hidden = saliency.occlusion(
            trained,
            image,
            label,
            square=square,
            stride=stride,
            batch_size=args.batch_size,
            progress=ProgressLine("occlusion", terminal),
        )
    name = figure.shortened(synsets.words(trained.classes[label]), 28)
    return saliency.draw_saliency(
        augment.center_crop(image, crop),
        f"{name}: {probabilities[label]:.1%}",
        salient=saliency.saliency_map(saliency.gradient(trained, image, label)),
        hidden=hidden,
        square=square,
        stride=stride,
    )


def _maximise(args: argparse.Namespace, images: list[str]):
    from alexnet_jax.data import synsets
    from alexnet_jax.runtime.terminal import ProgressLine, Terminal
    from alexnet_jax.tools.visualize import classes, maximise

    _no_image(images)
    class_names = getattr(args, "class")
    if bool(class_names) == bool(args.unit) or bool(args.layer) != bool(args.unit):
        raise UserError(
            "What is to be maximised? Name classes with --class=NAME,... or units with "
            "--layer=NAME --unit=N,..., one of the two."
        )
    fields = [field.name for field in dataclasses.fields(maximise.Ascent)]
    ascent = maximise.Ascent(**{name: getattr(args, name) for name in fields})
    trained = _trained(args)
    if class_names:
        layer = trained.architecture.layers[-1].name
        units = [classes.find_label(trained, name) for name in class_names]
        names = [synsets.words(trained.classes[unit]) for unit in units]
    else:
        layer, units = args.layer, classes.parse_numbers("unit", args.unit)
        names = [f"{layer}, unit {unit}" for unit in units]
    with Terminal() as terminal:
        progress = ProgressLine("gradient ascent", terminal, "steps")
        images_of_units = maximise.ascend(trained, layer, units, ascent, args.seed, progress)
    return maximise.draw_maximised(images_of_units, names)


if __name__ == "__main__":
    main()
