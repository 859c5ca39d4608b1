"""tf.train.Example, the record of TensorFlow's data sets, without TensorFlow.

The message is described here as in tensorflow/core/example/example.proto and feature.proto, by
its field numbers; bytes and int64 features are all that sets of labelled images need.
"""

import functools

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_STRING, _BYTES, _INT64, _MESSAGE = 9, 12, 3, 11  # FieldDescriptorProto.Type
_OPTIONAL, _REPEATED = 1, 3  # FieldDescriptorProto.Label


def serialize(features: dict[str, bytes | int]) -> bytes:
    """The record of an example whose features hold one value each."""
    example = _message_class()()
    for name, value in features.items():
        kind = example.features.feature[name]
        values = kind.int64_list if isinstance(value, int) else kind.bytes_list
        values.value.append(value)
    return example.SerializeToString(deterministic=True)


def parse(record: bytes) -> dict[str, list[bytes] | list[int]]:
    """The values of each bytes and int64 feature of a record; others are left out.

    ValueError if it is no such record.
    """
    try:
        example = _message_class().FromString(record)
    except Exception as error:  # protobuf's implementations raise different ones
        raise ValueError(f"not a tf.train.Example: {error}") from error
    return {
        name: feature.bytes_list.value or feature.int64_list.value
        for name, feature in example.features.feature.items()
    }


def first(record: bytes, name: str) -> bytes:
    """The first value of one bytes feature; ValueError, IndexError or protobuf's if it has none."""
    return _message_class().FromString(record).features.feature[name].bytes_list.value[0]


@functools.cache
def _message_class():
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="alexnet_jax", syntax="proto3"
    )
    for name, kind in (("BytesList", _BYTES), ("Int64List", _INT64)):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, type=kind, label=_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in ((1, "BytesList"), (3, "Int64List")):  # 2 is a list of floats
        snake = {"BytesList": "bytes_list", "Int64List": "int64_list"}[name]
        feature.field.add(
            name=snake, number=number, type=_MESSAGE, label=_OPTIONAL,
            type_name=f".alexnet_jax.{name}", oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_STRING, label=_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=_MESSAGE, label=_OPTIONAL, type_name=".alexnet_jax.Feature"
    )
    features.field.add(
        name="feature", number=1, type=_MESSAGE, label=_REPEATED,
        type_name=".alexnet_jax.Features.FeatureEntry",
    )  # fmt: skip
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features", number=1, type=_MESSAGE, label=_OPTIONAL,
        type_name=".alexnet_jax.Features",
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("alexnet_jax.Example"))
