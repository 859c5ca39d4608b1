"""Libraries that only some commands and kinds of files need, and the command that installs them."""

import contextlib
import functools
import os
from collections.abc import Iterator

from alexnet_jax.runtime.errors import UserError

# The extra of this package that brings a library.
EXTRAS = {
    "tensorflow": "tf", "tensorflow_datasets": "tf", "clu": "tf", "tensorboard": "tf",
    "matplotlib": "plot", "onnx": "onnx", "torch": "torch",
}  # fmt: skip


def install_command(library: str) -> str:
    """The pip command that installs a library."""
    extra = EXTRAS.get(library)
    return f'pip install "alexnet-jax[{extra}]"' if extra else f"pip install {library}"


@contextlib.contextmanager
def require_package(package: str, purpose: str) -> Iterator[None]:
    """Around an import: raises UserError with the command that installs a missing package.

    `purpose` begins the sentence: "Reading FILE".
    """
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"{purpose} needs the library {package}, which is not installed: "
            f"{install_command(package)}."
        ) from error


@functools.cache
def import_tensorflow():
    """TensorFlow for its input pipelines and records: on no GPU, and without Keras.

    Each GPU belongs to JAX. Keras, which TensorFlow imports only if it is not told that the older
    one is meant, takes a third of the time; tf.keras imports it as ever when it is used. Raises
    ModuleNotFoundError where TensorFlow is not installed.
    """
    chosen = os.environ.get("TF_USE_LEGACY_KERAS")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        import tensorflow as tf
    finally:
        if chosen is None:
            del os.environ["TF_USE_LEGACY_KERAS"]
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = chosen
    tf.config.set_visible_devices([], "GPU")
    return tf


def missing_library(error: ImportError) -> str:
    """One sentence for an import that failed because a library is not installed, else ""."""
    library = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or library in ("", "alexnet_jax"):
        return ""
    return f"This needs the library {library}, which is not installed: {install_command(library)}."


def first_line(error: Exception) -> str:
    """The first line of an exception's message, at most 100 characters, or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
