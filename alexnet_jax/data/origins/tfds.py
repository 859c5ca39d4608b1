"""Any image classification set of tensorflow-datasets, as its own tools have stored it."""

import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from alexnet_jax.data.origins.origin import NO_LABEL, Origin, Record, choose_splits
from alexnet_jax.data.origins.shards import ArrayRecordShards, Shards, TfRecordShards, file_of
from alexnet_jax.runtime.errors import UserError

FILE_NAME = "file_name"


class Keys(NamedTuple):
    """What a stored example calls its image, its label and, if it has one, its file name."""

    image: str
    label: str
    file_name: str | None


class TfdsSplit:
    """Labels and names stand in the stored examples, so that they are known by reading alone."""

    blocks = None

    def __init__(self, shards: Shards, keys: Keys, classes: int):
        self.shards, self.keys, self.classes = shards, keys, classes
        self.fingerprint = shards.fingerprint

    def __len__(self) -> int:
        return len(self.shards)

    def read(self, ids: Sequence[int]) -> Iterator[Record]:
        for record, data in zip(ids, self.shards.read(ids), strict=True):
            yield self._parse(data, self._place(record))

    def _place(self, record: int) -> str:
        file = file_of(self.shards.starts, record)
        name = os.path.basename(self.shards.paths[file])
        return f"{name}__{record - self.shards.starts[file]}"

    def _parse(self, data: bytes, place: str) -> Record:
        # This module of theirs needs no TensorFlow.
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
                f"The example {place} can't be read ({error}): prepare the set again with "
                "tensorflow-datasets."
            ) from error
        if not NO_LABEL <= label < self.classes:
            raise UserError(
                f"The example {place} has the label {label}, but its set has the classes 0 to "
                f"{self.classes - 1}: prepare the set again with tensorflow-datasets."
            )
        return Record(os.fsdecode(name) if name else place, label, image)


def open_tfds(name: str, validation: str | None = None) -> Origin:
    """A set by NAME, NAME:VERSION or NAME/CONFIG:VERSION, downloaded and prepared if need be.

    It is looked for where the environment's TFDS_DATA_DIR says, or in the library's default.
    UserError where it can't be had, or is not one encoded image and one class label a record.
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
    kinds = {"tfrecord": TfRecordShards, "array_record": ArrayRecordShards}
    if file_format not in kinds:
        raise UserError(
            f"{name} is stored as {file_format}: expected {' or '.join(kinds)}; prepare it again "
            "with one of these as its file_format."
        )
    chosen = choose_splits(tuple(info.splits), validation, name)
    splits = {}
    for split, theirs in chosen.items():
        stored = info.splits[theirs]
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
    """UserError for stored sets of this name that have tensorflow-datasets import foreign code.

    The library imports the classes that a features.json names.
    """
    from tensorflow_datasets.core.utils import file_utils

    own = name.partition(":")[0].partition("/")[0]
    for place in file_utils.list_data_dirs(os.environ.get("TFDS_DATA_DIR")):
        # In NAME/VERSION or NAME/CONFIG/VERSION; unlike **, these patterns follow links.
        root = pathlib.Path(place) / own
        for path in sorted((*root.glob("*/features.json"), *root.glob("*/*/features.json"))):
            try:
                foreign = set(_class_names(json.loads(path.read_text())))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(f"{path} can't be read ({error}): get the set again.") from error
            foreign = sorted(one for one in foreign if not one.startswith("tensorflow_datasets."))
            if foreign:
                raise UserError(
                    f"{path} names the code {foreign[0]}, which is not run: take another set, or "
                    "prepare it with the features of tensorflow-datasets alone."
                )


def _class_names(value) -> Iterator[str]:
    """Everything in features.json that would be imported, in all of its spellings."""
    if isinstance(value, list):
        for one in value:
            yield from _class_names(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key in ("pythonClassName", "python_class_name", "type") and isinstance(one, str):
                yield one
            yield from _class_names(one)


def _keys(info, name: str) -> Keys:
    """The image and the label of a set: what it is trained on by default, or the only ones."""
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
