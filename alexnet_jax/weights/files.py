"""Reads a file of weights of whatever kind, which its content tells."""

import enum
import pathlib
import zipfile
from collections.abc import Iterator

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.weights import caffe, cuda_convnet, onnx_reader, state_dict
from alexnet_jax.weights import safetensors as native
from alexnet_jax.weights.trained import Trained
from alexnet_jax.weights.user_hints import UserHints

HEAD = 512
MOST_HEADER = 10**8  # bytes of the header of safetensors, by its own rule
TORCH_BEFORE_ZIP = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # torch.save before 1.6
# What is often taken for weights: (first bytes, what it is and the remedy).
NO_WEIGHTS = (
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
    """A kind of file, and what it is called for people."""

    NATIVE = "safetensors of this program"
    SAFETENSORS = "safetensors of another program"
    TORCH = "PyTorch's state dict"
    CAFFE = "Caffe's caffemodel"
    ONNX = "ONNX"
    CUDA_CONVNET = "a checkpoint of cuda-convnet"


def read_weights(path: pathlib.Path, hints: UserHints | None = None) -> Trained:
    """The network with its weights; UserError where the file is missing or holds none.

    `hints` says what the file does not tell; for our own safetensors it is not asked. The folder
    of a cuda-convnet run stands for the newest checkpoint in it.
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
    """The kind of a file by its content; UserError with what it is where it holds no weights."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}: expected one of weights.") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}).") from error
    if not head:
        raise UserError(f"{path} is empty: fetch it again.")
    for start, what in NO_WEIGHTS:
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
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and header < MOST_HEADER:
        return FileKind.NATIVE if native.is_native(path) else FileKind.SAFETENSORS
    if head.startswith(TORCH_BEFORE_ZIP):
        return FileKind.TORCH
    if head[:1] in (b"\x80", b"(", b"c"):
        return FileKind.CUDA_CONVNET
    return _kind_of_protobuf(path)


def _kind_of_zip(path: pathlib.Path) -> FileKind:
    """torch.save's, or cuda-convnet's with the pickle in `data` (--zip-save)."""
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
    """ONNX has its graph in field 7, Caffe its layers in 2 or 100; both are protobuf."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        fields, whole = [], True
        for field in _fields(file, size):
            whole = field is not None
            fields.append(field)
    messages = {number for number, kind in filter(None, fields) if kind == 2}
    kind = FileKind.ONNX if 7 in messages else FileKind.CAFFE if messages & {2, 100} else None
    if kind and whole:
        return kind
    if kind and len(fields) > 2:
        raise UserError(f"{path} begins as {kind.value}, but is cut short or damaged.")
    raise UserError(
        f"{path} holds no weights of a kind that is known here: expected a .caffemodel, ONNX, "
        "PyTorch's state dict, safetensors or a checkpoint of cuda-convnet."
    )


def _fields(file, size: int) -> Iterator[tuple[int, int] | None]:
    """(number, wire type) of the fields of a message; None, last, where it breaks off."""
    position = 0
    while position < size:
        file.seek(position)
        tag, used = _varint(file.read(10))
        kind = tag & 7
        position += used
        if kind == 0:
            file.seek(position)
            position += _varint(file.read(10))[1] or size
        elif kind == 2:
            file.seek(position)
            length, more = _varint(file.read(10))
            position += more + length if more else size
        else:
            position += {1: 8, 5: 4}.get(kind, size + 1)
        if used and tag >> 3:
            yield tag >> 3, kind
        if not used or not tag >> 3 or position > size:
            yield None
            return


def _varint(data: bytes) -> tuple[int, int]:
    """A number in base 128 and how many bytes it took; 0 bytes where it does not end."""
    number = 0
    for index, byte in enumerate(data):
        number |= (byte & 127) << 7 * index
        if byte < 128:
            return number, index + 1
    return 0, 0


def _pickle(path: pathlib.Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read("data")


def resolve_checkpoint(folder: pathlib.Path) -> pathlib.Path:
    """Of a cuda-convnet run the checkpoint EPOCH.BATCH with the highest numbers, else the same.

    UserError for any other folder.
    """
    if not folder.is_dir():
        return folder
    found = [
        path for path in folder.iterdir() if path.name.count(".") == 1
        and all(part.isdigit() for part in path.name.split("."))
    ]  # fmt: skip
    if not found:
        raise UserError(
            f"{folder} is a folder: name a file of weights, or a training run with --workdir."
        )
    return max(found, key=lambda path: [int(part) for part in path.name.split(".")])
