"""Image classification sets of tensorflow-datasets, read without TensorFlow or decoding."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np

from alexnet_jax.data import examples
from alexnet_jax.data.origins.origin import Origin, Record, Slices, fingerprint, validation_of
from alexnet_jax.errors import UserError


def open_tfds(name: str, validation: str | None) -> Origin:
    """A set as tfds.builder names it, from its data folder, or downloaded to there.

    UserError if there is none or if its examples are not one image with one label.
    """
    import tensorflow_datasets as tfds

    place = os.environ.get("TFDS_DATA_DIR")  # tensorflow-datasets looks only when it is imported
    try:
        builder = tfds.builder(name, data_dir=place)
        if not builder.info.splits:
            builder.download_and_prepare()
    except Exception as error:  # of any library that some data set uses
        reason = " ".join(str(error).split()).split(". ")[0]
        raise UserError(
            f"tensorflow-datasets can't give '{name}' ({reason}): its data is looked for in "
            f"{place or '~/tensorflow_datasets'}, which TFDS_DATA_DIR can change."
        ) from error
    image, label = _keys(builder.info, name)
    classes = tuple(builder.info.features[label].names)
    found = builder.info.splits
    second = validation_of([n for n in found if n != "train"], validation, name)
    names = {"train": "train", "val": second}
    if "test" in found and second != "test":
        names["test"] = "test"
    missing = [n for n in names.values() if n not in found]
    if missing:
        raise UserError(f"'{name}' has no split '{missing[0]}': it has {', '.join(found)}.")
    splits = {}
    for split, there in names.items():
        files = [os.fspath(path) for path in found[there].filepaths]
        lengths = found[there].shard_lengths
        kind = builder.info.file_format.file_suffix
        if kind == "tfrecord":
            splits[split] = Examples(_index_tfrecords(files), image, label)
        elif kind == "array_record":
            splits[split] = Examples(ArrayRecords(files, np.cumsum([0, *lengths])), image, label)
        else:
            raise UserError(f"'{name}' lies in {kind} files: expected TFRecord or array_record.")
    return Origin(classes, splits, {"kind": "tfds", "where": builder.info.full_name})


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split whose records are tf.train.Examples with the features `image` and `label`."""

    stored: "Slices | ArrayRecords"
    image: str
    label: str
    blocks: None = None

    @property
    def fingerprint(self) -> str:
        """That of the files."""
        return self.stored.fingerprint

    def __len__(self) -> int:
        return len(self.stored)

    def read(self, ids: Sequence[int]) -> Iterator[Record]:
        """Records in the order of `ids`; the feature `file_name` is their name, if there is one."""
        for place, _, data in self.stored.read(ids):
            features = examples.parse(data)
            names = features.get("file_name")
            name = names[0].decode() if names else place
            yield Record(name, int(features[self.label][0]), features[self.image][0])


@dataclasses.dataclass(frozen=True)
class ArrayRecords:
    """Undecoded records of array_record files; file i begins with record `starts[i]`."""

    files: Sequence[str]
    starts: np.ndarray

    @property
    def fingerprint(self) -> str:
        """Of file names, numbers of records and sizes of files."""
        sizes = np.asarray([os.stat(file).st_size for file in self.files])
        return fingerprint(map(os.path.basename, self.files), self.starts, sizes)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, ids: Sequence[int]) -> Iterator[Record]:
        """Records in the order of `ids`, without a label."""
        from array_record.python.array_record_module import ArrayRecordReader

        readers = {}
        for record in ids:
            owner = int(np.searchsorted(self.starts, record, side="right")) - 1
            if owner not in readers:
                readers[owner] = ArrayRecordReader(self.files[owner], "readahead_buffer_size:0")
            place = int(record - self.starts[owner])
            name = f"{os.path.basename(self.files[owner])}__{place}"
            yield Record(name, -1, readers[owner].read([place])[0])


def _keys(info, name: str) -> tuple[str, str]:
    """Names of the image and of the label among a set's features."""
    import tensorflow_datasets as tfds

    features = dict(info.features.items())
    preferred = [key for key in info.supervised_keys or () if key in features]
    order = preferred + [key for key in features if key not in preferred]
    images = [key for key in order if type(features[key]) is tfds.features.Image]
    labels = [key for key in order if isinstance(features[key], tfds.features.ClassLabel)]
    if not images or not labels or (len(images) > 1 and images[0] not in preferred):
        kinds = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items())
        raise UserError(
            f"'{name}' is not a set of images with one label each: expected one Image and one "
            f"ClassLabel among its features, and found {kinds}."
        )
    return images[0], labels[0]


def _index_tfrecords(files: Sequence[str]) -> Slices:
    """Where the records lie: 8 bytes of length and 4 of checksum come before each, 4 after it."""
    names, owners, offsets, sizes = [], [], [], []
    for owner, path in enumerate(files):
        end, at, place = os.stat(path).st_size, 0, 0
        file = os.open(path, os.O_RDONLY)
        try:
            while at < end:
                size = int.from_bytes(os.pread(file, 8, at), "little")
                if at + 16 + size > end:
                    raise UserError(f"{path} ends inside a record: get the data set anew.")
                names.append(f"{os.path.basename(path)}__{place}")
                owners.append(owner)
                offsets.append(at + 12)
                sizes.append(size)
                at, place = at + 16 + size, place + 1
        finally:
            os.close(file)
    arrays = (np.asarray(values, np.int64) for values in (owners, offsets, sizes))
    return Slices(names, np.full(len(names), -1, np.int32), files, *arrays)
