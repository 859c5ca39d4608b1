"""Origins of labelled images before they are prepared: KIND:WHERE, one module for each kind.

Records hold encoded files; nothing here decodes an image. May import runtime, and of data the
modules below prepare: arrays, images and sources.
"""

import pathlib

from alexnet_jax.data.origins.folder import open_folder
from alexnet_jax.data.origins.imagenet_tars import open_imagenet_tars
from alexnet_jax.data.origins.origin import Origin
from alexnet_jax.data.origins.parquet import open_parquet
from alexnet_jax.data.origins.tfds import open_tfds
from alexnet_jax.runtime.errors import UserError


def open_origin(source: str, validation: str | None = None) -> Origin:
    """The data set KIND:WHERE; `validation` is the name there of the split to use as "val".

    Lists and indexes the records without reading images. UserError if the set is missing or
    damaged.
    """
    kind, colon, where = source.partition(":")
    if not colon or not where:
        raise UserError(
            f"The source '{source}' is not of the form KIND:WHERE: expected folder:DIR, "
            "imagenet_tars:DIR, tfds:NAME or parquet:DIR."
        )
    if kind == "tfds":
        return open_tfds(where, validation)
    if kind not in ("folder", "imagenet_tars", "parquet"):
        raise UserError(
            f"There is no kind of source '{kind}': expected folder, imagenet_tars, tfds or parquet."
        )
    root = pathlib.Path(where).expanduser()  # no shell does it behind a colon
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: {kind}:DIR needs one that exists.")
    match kind:
        case "folder":
            return open_folder(root, validation)
        case "imagenet_tars":
            return open_imagenet_tars(root, validation)
    return open_parquet(root, validation)
