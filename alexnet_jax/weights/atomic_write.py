"""Files that appear complete or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from alexnet_jax.runtime.errors import UserError


@contextlib.contextmanager
def atomic_path(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield PATH.partial, to be written, and rename it to `path` when the block succeeds.

    An exception in the block removes the partial file and leaves `path` as it was. Raises UserError
    where the file can't be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"{path} can't be written ({error.strerror or error}): name a file in a folder that "
            "exists and has room."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
