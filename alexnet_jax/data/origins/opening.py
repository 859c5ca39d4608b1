"""KIND:WHERE becomes an origin."""

from alexnet_jax.data.origins import folder, imagenet_tars, parquet, tfds
from alexnet_jax.data.origins.origin import Origin
from alexnet_jax.errors import UserError


def open_origin(source: str, validation: str | None = None) -> Origin:
    """The origin KIND:WHERE; `validation` names the split to validate on, if not the usual one.

    UserError if there is nothing of that kind.
    """
    kind, colon, where = source.partition(":")
    if not (colon and where):
        raise UserError(f"--source={source} is not understood: expected KIND:WHERE.")
    match kind:
        case "folder":
            return folder.open_folder(where, validation)
        case "imagenet_tars":
            return imagenet_tars.open_tars(where)
        case "tfds":
            return tfds.open_tfds(where, validation)
        case "parquet":
            return parquet.open_parquet(where, validation)
    raise UserError(
        f"'{kind}' is no kind of source: expected folder, imagenet_tars, tfds or parquet."
    )
