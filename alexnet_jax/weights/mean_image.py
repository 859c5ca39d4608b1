"""Reads a mean of images: Caffe's binaryproto, NumPy's npy, cuda-convnet's batches.meta."""

import io
import math
import pathlib

import numpy as np

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import caffe_messages, python2

CHANNELS = (1, 3)


def read_mean(path: pathlib.Path, *, bgr: bool) -> np.ndarray:
    """The mean in grey levels, RGB or grey, float32 [size, size, channels] or [channels].

    A NumPy file may be [size, size, channels], or channels first or flat as in cuda-convnet and
    Caffe; then `bgr` says whether its channels are BGR. A binaryproto always is BGR, a batches.meta
    never. Raises UserError where there is no such file, or it holds no mean.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"--mean={path} can't be read ({error.strerror}).") from error
    if data.startswith(b"\x93NUMPY"):
        try:
            mean = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise UserError(f"--mean={path} can't be read as NumPy's npy ({error}).") from error
    elif data[:1] in (b"\x80", b"("):
        meta = python2.load_pickle(data, str(path))
        data_mean = meta.get("data_mean") if isinstance(meta, dict) else None
        if not isinstance(data_mean, python2.Array):
            raise UserError(f"--mean={path} holds no data_mean: expected cuda-convnet's meta file.")
        mean, bgr = data_mean.value, False
    else:
        blob = caffe_messages.parse_message("BlobProto", data)
        if blob is None or not len(blob.data) + len(blob.double_data):
            raise UserError(
                f"--mean={path} is no mean of images: expected Caffe's binaryproto, NumPy's npy or "
                "cuda-convnet's batches.meta."
            )
        mean, bgr = caffe_messages.blob_array(blob), True
    return _channels_last(np.asarray(mean), bgr, path)


def _channels_last(mean: np.ndarray, bgr: bool, path: pathlib.Path) -> np.ndarray:
    """[size, size, channels] or [channels], RGB, from any of the layouts of `read_mean`."""
    if mean.dtype.kind in "fiu" and np.isfinite(mean).all():
        shape = [length for length in mean.shape if length != 1] or [1]
        if len(shape) == 3 and shape[0] == shape[1] and shape[2] in CHANNELS:
            return np.ascontiguousarray(mean.reshape(shape), np.float32)
        channels = 3 if mean.size % 3 == 0 else 1
        side = math.isqrt(mean.size // channels)
        if side**2 * channels == mean.size and len(shape) in (1, 2, 3):
            planes = mean.astype(np.float32).reshape(channels, side, side)
            planes = planes[::-1] if bgr else planes
            image = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
            return image[0, 0] if side == 1 else image
    raise UserError(
        f"--mean={path} has the shape {list(mean.shape)}: expected finite numbers, one a channel "
        "or [size, size, channels] or [channels, size, size]."
    )
