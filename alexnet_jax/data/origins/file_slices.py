"""Records that are slices of larger files, read by their offsets."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

from alexnet_jax.data import images
from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.runtime.errors import UserError


class FileSlices:
    """Record i is `sizes[i]` bytes from byte `offsets[i]` of the file `paths[files[i]]`."""

    def __init__(
        self, paths: Sequence[str], files: np.ndarray, offsets: np.ndarray, sizes: np.ndarray
    ):
        self.paths = tuple(paths)
        self.files = np.asarray(files, np.int32)
        self.offsets = np.asarray(offsets, np.int64)
        self.sizes = np.asarray(sizes, np.int64)

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, ids: RecordIds) -> Iterator[bytes]:
        """The bytes of each record; only the file of the current record is open.

        Of a record beyond images.MAX_BYTES one byte more than that is read, so that it is refused.
        UserError where a file has become shorter.
        """
        open_file, descriptor = -1, -1
        try:
            for record in ids:
                number = int(self.files[record])
                if number != open_file:
                    if descriptor >= 0:
                        os.close(descriptor)
                    descriptor = -1  # nothing to close if the next line fails
                    descriptor, open_file = os.open(self.paths[number], os.O_RDONLY), number
                offset, size = int(self.offsets[record]), int(self.sizes[record])
                size = min(size, images.MAX_BYTES + 1)
                data = os.pread(descriptor, size, offset)
                if len(data) != size:
                    raise UserError(
                        f"{self.paths[number]} ends within the {size:,} bytes from byte {offset:,} "
                        "on, which were there when it was opened: get it again."
                    )
                yield data
        finally:
            if descriptor >= 0:
                os.close(descriptor)
