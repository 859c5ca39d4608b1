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

from alexnet_jax.runtime.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, UserError


def main() -> None:
    """Parse flags, then prepare."""
    given = _parser().parse_args()
    from alexnet_jax.data import prepared
    from alexnet_jax.data.origins import open_origin
    from alexnet_jax.data.prepare import prepare_dataset
    from alexnet_jax.data.shards import Settings
    from alexnet_jax.runtime.terminal import Terminal

    name = given.name
    folder = pathlib.Path(given.output) if given.output else prepared.default_folder(name)
    settings = Settings(name, given.size, given.channels, given.resize, given.format, given.seed)
    try:
        with Terminal() as terminal:
            origin = open_origin(given.source, given.validation)
            prepare_dataset(origin, settings, folder, num_workers=given.workers, terminal=terminal)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m alexnet_jax prepare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--source", required=True, metavar="KIND:WHERE", help="see above")
    add("--output", metavar="DIR", help="by default where tensorflow-datasets keeps its data")
    add("--name", type=_name, default="imagenet", help="of the set (%(default)s)")
    add("--validation", metavar="NAME", help="the split to validate on, if it is not the usual one")
    add("--size", type=_positive, default=256, help="side of the stored images (%(default)s)")
    add("--channels", type=int, choices=(3, 1), default=3, help="colour, or 1 for grey")
    crop_or_warp = "shorter side to the size and the centre cut out, or both sides as for Caffe"
    add("--resize", choices=("crop", "warp"), default="crop", help=crop_or_warp)
    jpeg_or_raw = "JPEG of quality 95, or PNG and raw pixels: nothing lost, ten times the space"
    add("--format", choices=("jpeg", "raw"), default="jpeg", help=jpeg_or_raw)
    add("--seed", type=_natural, default=0, help="of the order (%(default)s)")
    workers = os.cpu_count() or 1
    add("--workers", type=_positive, default=workers, help="processes; by default one a core")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 0")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no name like imagenet or cifar_10")
    return text


if __name__ == "__main__":
    main()
