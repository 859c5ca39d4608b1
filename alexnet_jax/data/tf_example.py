"""tf.train.Example, the record format of tensorflow-datasets, without TensorFlow."""

import os


def load_library() -> None:
    """Import what `parse` and `serialize` need, before threads call them.

    Two threads that import tensorflow-datasets at the same time can deadlock: its lazy modules hold
    a lock while they import others.
    """
    from tensorflow_datasets.proto import tf_example_pb2  # noqa: F401


def serialize(image: bytes, label: int, file_name: str) -> bytes:
    """The record of a labelled image file."""
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(image)
    example.features.feature["label"].int64_list.value.append(label)
    example.features.feature["file_name"].bytes_list.value.append(os.fsencode(file_name))
    return example.SerializeToString(deterministic=True)


def parse(record: bytes) -> tuple[bytes, int]:
    """Encoded image and label of a record; protobuf's error or an IndexError if it has none."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(record).features.feature
    return features["image"].bytes_list.value[0], features["label"].int64_list.value[0]
