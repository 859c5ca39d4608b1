"""Records that are pieces of larger files, read by their offsets."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

from alexnet_jax.data import images
from alexnet_jax.runtime.errors import UserError


class Pieces:
    """`files` [records] numbers the `paths`; `offsets` and `sizes` [records] are in bytes."""

    def __init__(
        self, paths: Sequence[str], files: np.ndarray, offsets: np.ndarray, sizes: np.ndarray
    ):
        self.paths = tuple(paths)
        self.files = np.asarray(files, np.int32)
        self.offsets = np.asarray(offsets, np.int64)
        self.sizes = np.asarray(sizes, np.int64)

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, ids: Sequence[int]) -> Iterator[bytes]:
        """The bytes of each record; a file is open while the ids stay in it, and not longer.

        Of one beyond images.MOST_BYTES only so many are read that it is refused. UserError where a
        file has become shorter.
        """
        opened, descriptor = None, None
        try:
            for record in ids:
                number = int(self.files[record])
                if number != opened:
                    if descriptor is not None:
                        os.close(descriptor)
                    descriptor = None  # nothing to close if the next line fails
                    descriptor, opened = os.open(self.paths[number], os.O_RDONLY), number
                offset, size = int(self.offsets[record]), int(self.sizes[record])
                size = min(size, images.MOST_BYTES + 1)
                data = os.pread(descriptor, size, offset)
                if len(data) != size:
                    raise UserError(
                        f"{self.paths[number]} ends within the {size:,} bytes from byte {offset:,} "
                        "on, which were there when it was opened: get it again."
                    )
                yield data
        finally:
            if descriptor is not None:
                os.close(descriptor)
