"""Write down what a layer says of images: python -m alexnet_jax features --layer=fc7
--workdir=DIR | --weights=FILE --output=FILE.npz|FILE.parquet IMAGE...

IMAGE is a file, a folder (with all images below it) or a pattern such as 'cats/*.jpg'. Instead of
images --path=SET names a prepared set or a folder with train/CLASS/* and val/CLASS/*, and --split
alone the data of the run. Dense layers give a row for each image, others their maps [height, width,
maps]. Killed at any moment, the same command goes on. TensorFlow is not needed.
"""

import argparse
import os
import pathlib
import sys

from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main)


def _main() -> None:
    args, images = command_flags.parse(sys.argv, __doc__, _define_flags, arguments=True)
    if not args.output:
        raise UserError("Where to? Add --output=FILE.npz or --output=FILE.parquet.")
    cli.check_output("output", args.output)
    if images and (args.path or args.split):
        raise UserError(
            f"--{'path' if args.path else 'split'} names a data set, and '{images[0]}' an image: "
            "leave one."
        )
    if not images and not args.path and not (args.split and args.workdir):
        raise UserError(
            "No image was named: add files, folders or patterns after the flags, --path=SET, or "
            "for the data of a run --workdir=DIR --split=val."
        )
    cli.alone(lambda: _run(args, images))


def _define_flags(flags: command_flags.Flags) -> None:
    flags.trained_network()
    flags.string("layer", "fc7", "Name of a layer; a wrong one is answered with all names.")
    flags.string("output", None, "File to write, .npz or .parquet.")
    flags.string("path", None, "Prepared set, or folder of images with train/ and val/.")
    flags.choice("split", None, ["train", "val"], "Split of the set; unset: val.")
    flags.integer("batch_size", 64, "Images at a time.", at_least=1)
    flags.choice(
        "on_bad_image", "leave_out", ["leave_out", "stop"], "What is done with an unreadable image."
    )


def _run(args: argparse.Namespace, images: list[str]) -> None:
    from alexnet_jax.runtime.terminal import Terminal
    from alexnet_jax.tools import load
    from alexnet_jax.tools.features import extract, files, parts

    output = pathlib.Path(args.output)
    files.check_features_path(output)
    trained = load.from_flags(args.workdir, args.step, args.weights)
    metadata = extract.metadata_of(trained, args.layer)
    collection = _collection(args, images, trained)
    files.check_features_path(output, collection.names)
    part_images = extract.part_images(metadata["shape"], args.batch_size)
    plan = {
        "layer": metadata["layer"],
        "weights": metadata["parameters_sha256"],
        "pixels": metadata["pixels"],
        "images": [collection.fingerprint, len(collection)],
        "batch": [args.batch_size, part_images],
    }
    with (
        Terminal() as terminal,
        parts.opened(
            output, plan, len(collection), part_images, metadata["shape"]
        ) as feature_parts,
    ):
        extract.fill(
            feature_parts,
            trained,
            args.layer,
            collection,
            batch_size=args.batch_size,
            num_workers=os.cpu_count() or 1,
            stop_at_bad=args.on_bad_image == "stop",
            terminal=terminal,
        )
        terminal.info(_finish(output, metadata, trained.name, collection, feature_parts))


def _collection(args: argparse.Namespace, images: list[str], trained):
    from alexnet_jax.data import image_files
    from alexnet_jax.tools.features import collection, extract

    stored = extract.stored_of(trained)
    if images:
        return collection.of_files(image_files.find(images), trained.classes, stored)
    split = args.split or "val"
    if args.path:
        return collection.of_set(args.path, split, stored)
    return collection.of_run(args.workdir, split)


def _finish(output: pathlib.Path, metadata: dict, weights: str, collection, feature_parts) -> str:
    """Put the parts together; what was written, for people."""
    from alexnet_jax.tools.features import files

    used, left_out = feature_parts.used()
    if not len(used):
        raise UserError(f"None of the {len(collection):,} images can be read: name others.")
    metadata = metadata | {"weights": weights} | collection.metadata(left_out.tolist())
    names = [collection.names[number] for number in used]
    files.write_features(
        output,
        metadata=metadata,
        names=names,
        labels=collection.labels[used],
        shape=feature_parts.shape,
        features=feature_parts.features(),
    )
    shape = " x ".join(f"{number:,}" for number in (len(used), *feature_parts.shape))
    message = f"In {output}: {metadata['layer']} of {weights}, {shape} float32"
    if len(left_out):
        message += f"; {len(left_out):,} images that can't be read are left out"
    return message + "."


if __name__ == "__main__":
    main()
