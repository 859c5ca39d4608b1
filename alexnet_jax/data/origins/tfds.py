"""Any image classification set of tensorflow-datasets, as its own tools have stored it."""

import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from alexnet_jax.data.arrays import RecordIds
from alexnet_jax.data.origins.origin import NO_LABEL, Origin, Record, choose_splits
from alexnet_jax.data.origins.shards import ArrayRecordShards, Shards, TfRecordShards, file_of
from alexnet_jax.runtime.errors import UserError

FILE_NAME = "file_name"


class Keys(NamedTuple):
    """The names of the features with the image, the label and, if there is one, the file name."""

    image: str
    label: str
    file_name: str | None


class TfdsSplit:
    """A split whose labels and names are in its stored examples, unknown before they are read."""

    blocks: np.ndarray | None = None

    def __init__(self, shards: Shards, keys: Keys, num_classes: int):
        self.shards, self.keys, self.num_classes = shards, keys, num_classes
        self.fingerprint = shards.fingerprint

    def __len__(self) -> int:
        return len(self.shards)

    def read(self, ids: RecordIds) -> Iterator[Record]:
        for record, data in zip(ids, self.shards.read(ids), strict=True):
            yield self._parse(data, self._example_name(record))

    def _example_name(self, record: int) -> str:
        """FILE__NUMBER, for an example without a file name and for error messages."""
        file = file_of(self.shards.starts, record)
        name = os.path.basename(self.shards.paths[file])
        return f"{name}__{record - self.shards.starts[file]}"

    def _parse(self, data: bytes, example: str) -> Record:
        # This module of tensorflow-datasets needs no TensorFlow.
        from google.protobuf.message import DecodeError
        from tensorflow_datasets.proto import tf_example_pb2

        keys = self.keys
        try:
            feature = tf_example_pb2.Example.FromString(data).features.feature
            image = feature[keys.image].bytes_list.value[0]
            label = feature[keys.label].int64_list.value[0]
            name = feature[keys.file_name].bytes_list.value[0] if keys.file_name else None
        except (DecodeError, IndexError) as error:
            raise UserError(
                f"The example {example} can't be read ({error}): prepare the set again with "
                "tensorflow-datasets."
            ) from error
        if not NO_LABEL <= label < self.num_classes:
            raise UserError(
                f"The example {example} has the label {label}, but its set has the classes 0 to "
                f"{self.num_classes - 1}: prepare the set again with tensorflow-datasets."
            )
        return Record(os.fsdecode(name) if name else example, label, image)


def open_tfds(name: str, validation: str | None = None) -> Origin:
    """A set by NAME, NAME:VERSION or NAME/CONFIG:VERSION, downloaded and prepared if need be.

    Its folder is below TFDS_DATA_DIR of the environment, or the library's default. UserError where
    the set can't be provided, or its examples are not one encoded image and one class label.
    """
    builder = _prepared(name)
    info, folder = builder.info, os.path.normpath(builder.data_path)
    keys = _keys(info, name)
    names = info.features[keys.label].names if info.features[keys.label].num_classes else ()
    if not names:
        raise UserError(
            f"{name} does not say how many classes its '{keys.label}' has: take another set."
        )
    file_format = info.file_format.value
    kinds: dict[str, Callable[[Sequence[str], Sequence[int]], Shards]] = {
        "tfrecord": TfRecordShards,
        "array_record": ArrayRecordShards,
    }
    if file_format not in kinds:
        raise UserError(
            f"{name} is stored as {file_format}: expected {' or '.join(kinds)}; prepare it again "
            "with one of these as its file_format."
        )
    chosen = choose_splits(tuple(info.splits), validation, name)
    splits = {}
    for split, stored_name in chosen.items():
        stored = info.splits[stored_name]
        paths = [os.fspath(path) for path in stored.filepaths]
        if any(os.path.dirname(os.path.normpath(path)) != folder for path in paths):
            raise UserError(
                f"{folder} names files that lie elsewhere, such as {paths[0]}: prepare {name} "
                "again with tensorflow-datasets."
            )
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise UserError(
                f"{missing[0]} is missing: prepare {name} again with tensorflow-datasets."
            )
        splits[split] = TfdsSplit(kinds[file_format](paths, stored.shard_lengths), keys, len(names))
    facts = {"kind": "tfds", "where": name, "full_name": info.full_name}
    return Origin(tuple(names), splits, facts)


def _prepared(name: str):
    """The builder of a set whose files are there."""
    import tensorflow_datasets as tfds

    _, colon, rest = name.partition(":")
    if colon and rest[:1].isalpha():
        raise UserError(
            f"'{name}' is of a namespace, whose code tensorflow-datasets would fetch and run: take "
            "a set of its own catalogue, by NAME, NAME:VERSION or NAME/CONFIG:VERSION."
        )
    _check_features(name)
    try:
        # The library itself asks for the variable once, when it is imported.
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
        if not builder.is_prepared():
            builder.download_and_prepare()
    except Exception as error:  # anything can go wrong in a set's own code
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"tensorflow-datasets can't provide '{name}' ({first_line}): check its name, the "
            "folder TFDS_DATA_DIR and the network."
        ) from error
    return builder


def _check_features(name: str) -> None:
    """UserError for a stored set of this name whose features.json names foreign classes.

    tensorflow-datasets would import them.
    """
    from tensorflow_datasets.core.utils import file_utils

    set_name = name.partition(":")[0].partition("/")[0]
    for data_dir in file_utils.list_data_dirs(os.environ.get("TFDS_DATA_DIR")):
        # In NAME/VERSION or NAME/CONFIG/VERSION; unlike **, these patterns follow links.
        root = pathlib.Path(data_dir) / set_name
        for path in sorted((*root.glob("*/features.json"), *root.glob("*/*/features.json"))):
            try:
                imported = set(_class_names(json.loads(path.read_text())))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(f"{path} can't be read ({error}): get the set again.") from error
            foreign = sorted(
                name for name in imported if not name.startswith("tensorflow_datasets.")
            )
            if foreign:
                raise UserError(
                    f"{path} names the code {foreign[0]}, which is not run: take another set, or "
                    "prepare it with the features of tensorflow-datasets alone."
                )


def _class_names(value) -> Iterator[str]:
    """Everything in features.json that would be imported, in all of its spellings."""
    if isinstance(value, list):
        for item in value:
            yield from _class_names(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(item, str):
                yield item
            yield from _class_names(item)


def _keys(info, name: str) -> Keys:
    """The image and the label of a set: its supervised keys, or its only ones of these types."""
    import tensorflow_datasets as tfds

    features = {key: info.features[key] for key in info.features}
    pair = info.supervised_keys or ()
    if len(pair) != 2 or not all(isinstance(key, str) and key in features for key in pair):
        pair = tuple(features)
    images = [key for key in pair if type(features[key]) is tfds.features.Image]
    labels = [key for key in pair if isinstance(features[key], tfds.features.ClassLabel)]
    if len(images) != 1 or len(labels) != 1 or features[images[0]].np_dtype != "uint8":
        listed = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in features.items())
        raise UserError(
            f"{name} is no set for image classification: expected one Image of 8 bits a channel "
            f"and one ClassLabel, found {listed}; take another set."
        )
    text = isinstance(features.get(FILE_NAME), tfds.features.Text)
    return Keys(images[0], labels[0], FILE_NAME if text else None)
