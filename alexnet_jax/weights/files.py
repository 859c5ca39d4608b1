"""Reads a file of weights of any kind; the kind is detected from its content."""

import enum
import pathlib
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import caffe, cuda_convnet, onnx_reader, state_dict
from alexnet_jax.weights import safetensors as native
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import UserHints

HEAD_BYTES = 512  # read to detect the kind
MAX_HEADER_BYTES = 10**8  # of the header of safetensors, by the limit of its library
TORCH_BEFORE_ZIP = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # torch.save before 1.6
# Files that are often taken for weights: (first bytes, what the file is and the remedy).
OTHER_FILES = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself: git lfs pull"),
    (b"\xff\xd8\xff", "is a picture: name a file of weights"),
    (b"\x89PNG", "is a picture: name a file of weights"),
    (b"GIF8", "is a picture: name a file of weights"),
    (b"\x89HDF", "is an HDF5 file, as of Keras, which is not read here: save it as safetensors"),
    (b"\x1f\x8b", "is packed by gzip: unpack it first"),
    (b"BZh", "is packed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "is packed by xz: unpack it first"),
)


class FileKind(enum.Enum):
    """A kind of file, with its name for people."""

    NATIVE = "safetensors of this program"
    SAFETENSORS = "safetensors of another program"
    TORCH = "PyTorch's state dict"
    CAFFE = "Caffe's caffemodel"
    ONNX = "ONNX"
    CUDA_CONVNET = "a checkpoint of cuda-convnet"


def read_weights(path: pathlib.Path, hints: UserHints | None = None) -> Trained:
    """The network with its weights.

    `hints` says what the file does not hold; this program's own safetensors need none. The folder
    of a cuda-convnet run stands for the newest checkpoint in it. Raises UserError where the file is
    missing or holds no weights of a known network.
    """
    hints = hints or UserHints()
    path = resolve_checkpoint(path)
    match detect_kind(path):
        case FileKind.NATIVE:
            return native.read_safetensors(path)
        case FileKind.SAFETENSORS:
            return state_dict.read_foreign_safetensors(path, hints)
        case FileKind.TORCH:
            return state_dict.read_state_dict(path, hints)
        case FileKind.CAFFE:
            return caffe.read_caffemodel(path, hints)
        case FileKind.ONNX:
            return onnx_reader.read_onnx(path, hints)
        case FileKind.CUDA_CONVNET:
            return cuda_convnet.read_checkpoint(str(path), _pickle(path), hints)


def detect_kind(path: pathlib.Path) -> FileKind:
    """The kind of a file by its content; UserError that names its kind if it holds no weights."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: expected one of weights.") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}).") from error
    if not head:
        raise UserError(f"{path} is empty: fetch it again.")
    for start, what in OTHER_FILES:
        if head.startswith(start):
            raise UserError(f"{path} {what}.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<!--")):
        raise UserError(
            f"{path} is a web page, not weights: whatever fetched it was given a page instead, "
            "perhaps of an error; open it in a browser to see which."
        )
    if head[257:262] == b"ustar":
        raise UserError(f"{path} is a tar archive: unpack it and name the file of weights in it.")
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    header_bytes = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header_bytes < MAX_HEADER_BYTES:
        return FileKind.NATIVE if native.is_native(path) else FileKind.SAFETENSORS
    if head.startswith(TORCH_BEFORE_ZIP):
        return FileKind.TORCH
    if head[:1] in (b"\x80", b"(", b"c"):
        return FileKind.CUDA_CONVNET
    return _kind_of_protobuf(path)


def _kind_of_zip(path: pathlib.Path) -> FileKind:
    """PyTorch's archive, or cuda-convnet's with the pickle in `data` (--zip-save)."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path} is an archive, as of PyTorch, that is cut short or damaged: fetch it again."
        ) from error
    if names == ["data"]:
        return FileKind.CUDA_CONVNET
    if any(name.endswith("data.pkl") for name in names):
        return FileKind.TORCH
    raise UserError(f"{path} is a zip archive without weights: unpack it and name the file in it.")


def _kind_of_protobuf(path: pathlib.Path) -> FileKind:
    """ONNX with its graph in field 7, or Caffe with its layers in 2 or 100; both are protobuf."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        fields = list(_protobuf_fields(file, size))
    complete = None not in fields
    messages = {number for number, wire_type in filter(None, fields) if wire_type == 2}
    kind = FileKind.ONNX if 7 in messages else FileKind.CAFFE if messages & {2, 100} else None
    if kind and complete:
        return kind
    if kind and len(fields) > 2:
        raise UserError(f"{path} begins as {kind.value}, but is cut short or damaged.")
    raise UserError(
        f"{path} holds no weights of a kind that is known here: expected a .caffemodel, ONNX, "
        "PyTorch's state dict, safetensors or a checkpoint of cuda-convnet."
    )


def _protobuf_fields(file: BinaryIO, size: int) -> Iterator[tuple[int, int] | None]:
    """(number, wire type) of the fields of a message; None, last, where the file is cut short."""
    position = 0
    while position < size:
        file.seek(position)
        tag, tag_bytes = _varint(file.read(10))
        number, wire_type = tag >> 3, tag & 7
        position += tag_bytes
        if wire_type == 0:
            file.seek(position)
            position += _varint(file.read(10))[1] or size
        elif wire_type == 2:
            file.seek(position)
            length, length_bytes = _varint(file.read(10))
            position += length_bytes + length if length_bytes else size
        else:
            position += {1: 8, 5: 4}.get(wire_type, size + 1)
        if tag_bytes and number:
            yield number, wire_type
        if not tag_bytes or not number or position > size:
            yield None
            return


def _varint(data: bytes) -> tuple[int, int]:
    """A number in base 128 and its length in bytes; length 0 where it does not end."""
    number = 0
    for index, byte in enumerate(data):
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, index + 1
    return 0, 0


def _pickle(path: pathlib.Path) -> bytes:
    """The pickle of a cuda-convnet checkpoint, which may lie in a zip archive."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read("data")


def resolve_checkpoint(path: pathlib.Path) -> pathlib.Path:
    """The newest checkpoint EPOCH.BATCH in the folder of a cuda-convnet run; a file is returned.

    Raises UserError for any other folder.
    """
    if not path.is_dir():
        return path
    checkpoints = [
        file for file in path.iterdir() if file.name.count(".") == 1
        and all(part.isdigit() for part in file.name.split("."))
    ]  # fmt: skip
    if not checkpoints:
        raise UserError(
            f"{path} is a folder: name a file of weights, or a training run with --workdir."
        )
    return max(checkpoints, key=lambda file: [int(part) for part in file.name.split(".")])
