"""The fields of Caffe's protobuf messages that hold weights, described at run time.

Field numbers and types are those of caffe.proto; its other fields are skipped. `data` is a packed
list of floats there, which the wire format stores like a string of bytes: declared as bytes it
becomes an array without a loop over its elements.
"""

import functools

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from alexnet_jax.runtime.errors import UserError

PACKAGE = "alexnet_jax.caffe"
INTEGER, LONG, TEXT, BYTES = (
    descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind}")
    for kind in ("INT32", "INT64", "STRING", "BYTES")
)
# {message: {field: (number, type or the name of a message, repeated)}}
MESSAGES = {
    "BlobShape": {"dim": (1, LONG, True)},
    "BlobProto": {
        "num": (1, INTEGER, False), "channels": (2, INTEGER, False),
        "height": (3, INTEGER, False), "width": (4, INTEGER, False),
        "data": (5, BYTES, False), "shape": (7, "BlobShape", False),
        "double_data": (8, BYTES, False),
    },
    "V0LayerParameter": {
        "name": (1, TEXT, False), "type": (2, TEXT, False), "blobs": (50, "BlobProto", True),
    },
    "V1LayerParameter": {
        "layer": (1, "V0LayerParameter", False), "name": (4, TEXT, False),
        "type": (5, INTEGER, False), "blobs": (6, "BlobProto", True),
    },
    "LayerParameter": {
        "name": (1, TEXT, False), "type": (2, TEXT, False), "blobs": (7, "BlobProto", True),
    },
    "NetParameter": {
        "name": (1, TEXT, False), "layers": (2, "V1LayerParameter", True),
        "layer": (100, "LayerParameter", True),
    },
}  # fmt: skip


def parse_message(name: str, data: bytes) -> message.Message | None:
    """The message of the type `name` in MESSAGES; None where the bytes are not one."""
    try:
        return _message_classes()[name].FromString(data)
    except message.DecodeError:
        return None


def blob_array(blob) -> np.ndarray:
    """The array of a BlobProto, float32, in its shape: `shape`, or `num` to `width` in old files.

    Raises UserError where the number of elements is not that of the shape.
    """
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        lengths = (blob.num, blob.channels, blob.height, blob.width)
        shape = tuple(length or 1 for length in lengths)
    if blob.double_data:
        array = np.frombuffer(blob.double_data, "<f8").astype(np.float32)
    else:
        array = np.frombuffer(blob.data[: len(blob.data) // 4 * 4], "<f4")
    if array.size != np.prod(shape, dtype=object) or min(shape, default=1) < 1:
        raise UserError(
            f"An array of the Caffe file has {array.size:,} numbers, but says that its shape is "
            f"{list(shape)}: the file is damaged; fetch it again."
        )
    return array.reshape(shape)


@functools.cache
def _message_classes() -> dict[str, type[message.Message]]:
    """The classes of MESSAGES, made at the first call."""
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="alexnet_jax/caffe.proto", package=PACKAGE)
    for name, fields in MESSAGES.items():
        descriptor = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            added = descriptor.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }
