"""Prepare a data set once, as in 2012: python -m alexnet_jax prepare --source=KIND:WHERE.

Writes every image at its stored size (paper section 2: shorter side to 256, the central square) in
shuffled order, as a data set of tensorflow-datasets with random access, and beside it the mean
image and the colours of the training set, and a report. Stopped at any moment, the same command
goes on with the shards that are missing.

KIND:WHERE is one of
  folder:DIR         DIR/train/CLASS/* and DIR/val/CLASS/*, or Kaggle's ILSVRC folder
  imagenet_tars:DIR  ILSVRC2012_img_train.tar, _img_val.tar and _devkit_t12.tar.gz as distributed
  tfds:NAME          an image classification set of tensorflow-datasets, such as imagenet2012
  parquet:DIR        the files of a set on Hugging Face
"""

import argparse
import os
import pathlib
import re
import sys

from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError

NAME = re.compile("[a-z][a-z0-9_]*")  # as in data.prepared


def main() -> None:
    """Parse flags, then import the rest: --help and a wrong flag answer at once."""
    cli.answer(_main, interrupted="Stopped; the same command goes on from here.")


def _main() -> None:
    args, _ = command_flags.parse(sys.argv, __doc__, _define_flags)
    if not args.source:
        raise UserError("Prepare what? Add --source=KIND:WHERE, such as --source=folder:DIR.")
    if not NAME.fullmatch(args.name):
        raise UserError(f"--name={args.name} is no name like imagenet or cifar_10.")
    _run(args)


def _define_flags(flags: command_flags.Flags) -> None:
    flags.string("source", None, "KIND:WHERE as above.")
    flags.string(
        "output", None, "Folder to write; unset: where tensorflow-datasets keeps its data."
    )
    flags.string("name", "imagenet", "Name of the set.")
    flags.string("validation", None, "The split to validate on, if it is not the usual one.")
    flags.integer("image_size", 256, "Side of the stored images, pixels.", at_least=1)
    flags.choice("channels", "3", ["3", "1"], "3: colour, 1: grey.")
    flags.choice(
        "resize", "crop", ["crop", "warp"],
        "crop: shorter side to the size, the center cut out; warp: both sides, as for Caffe.",
    )  # fmt: skip
    flags.choice(
        "format", "jpeg", ["jpeg", "raw"],
        "jpeg: quality 95; raw: PNG and raw pixels, nothing lost, ten times the space.",
    )  # fmt: skip
    flags.integer("seed", 0, "Seed of the order.", at_least=0)
    flags.integer("num_workers", os.cpu_count() or 1, "Processes; by default one a core.",
                  at_least=1)  # fmt: skip


def _run(args: argparse.Namespace) -> None:
    from alexnet_jax.data import prepared
    from alexnet_jax.data.origins import open_origin
    from alexnet_jax.data.prepare import prepare_dataset
    from alexnet_jax.data.shards import Settings
    from alexnet_jax.runtime.terminal import Terminal

    name = args.name
    folder = pathlib.Path(args.output) if args.output else prepared.default_folder(name)
    settings = Settings(
        name, args.image_size, int(args.channels), args.resize, args.format, args.seed
    )
    with Terminal() as terminal:
        origin = open_origin(args.source, args.validation)
        prepare_dataset(origin, settings, folder, num_workers=args.num_workers, terminal=terminal)


if __name__ == "__main__":
    main()
