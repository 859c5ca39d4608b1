"""The second, coarse view of the image in the authors' networks before net 145."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class LowResolution:
    """Blur by a Gaussian of `blur` taps and `deviation` pixels, then keep every `step`-th pixel.

    Kept are pixels `start`, `start + step`, ...; beyond the edge the blur sees zero, which is the
    mean image. conv2 sees the result through kernels of `size` x `size`, `stride` apart. Source:
    layers `blur` and `nailbed` of the 2012 release (layers-120.cfg), kGaussianBlur of cuda-convnet.
    """

    blur: int = 9
    deviation: float = 4.0
    step: int = 4
    start: int = 2
    size: int = 5
    stride: int = 2
    channels: int = 3

    def taps(self) -> np.ndarray:
        """The normalised filter, [blur]."""
        offsets = np.arange(self.blur) - self.blur // 2
        weights = np.exp(-(offsets**2) / (2 * self.deviation**2))
        return weights / weights.sum()

    def __call__(self, image: jax.Array) -> jax.Array:
        """[rows, side, side, channels] -> [rows, side / step, side / step, channels]."""
        taps = self.taps()
        for axis in (1, 2):
            image = self._along(image, axis, taps)
        return image

    def _along(self, image: jax.Array, axis: int, taps: np.ndarray) -> jax.Array:
        """Blur and subsample along one axis: a pixel that is not kept is never computed."""
        half, length = self.blur // 2, image.shape[axis]
        padding = [(0, 0)] * image.ndim
        padding[axis] = (half, half)
        padded = jnp.pad(image, padding)
        return sum(
            tap * jax.lax.slice_in_dim(padded, self.start + index, length + index, self.step, axis)
            for index, tap in enumerate(taps.tolist())
        )
