"""Files that appear whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from alexnet_jax.runtime.errors import UserError


@contextlib.contextmanager
def atomic_path(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name to write to, which becomes `path` if all goes well; UserError if it can't be written.

    What was written by then is taken away otherwise.
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
