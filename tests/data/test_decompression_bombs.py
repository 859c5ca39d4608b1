"""A small file cannot claim much memory: what it says of itself is judged before it is believed."""

import gzip
import io
import resource
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import ImageFile

from alexnet_jax.data import arrays, images, prepared, sources
from alexnet_jax.data.origins import imagenet_tars, open_origin, parquet
from alexnet_jax.runtime.errors import UserError
from tests.support import layouts
from tests.support.layouts import small_set
from tests.support.odd_images import encoded, jpeg, picture

SIDE = 60_000
BOMB = zlib.compress(bytes(2**26))


def forged(kind, find, offset, size, **options):
    """A picture of 64 x 64 pixels whose header says another size."""
    data = bytearray(encoded(picture(64, 64, 0), kind, **options))
    place = data.index(find) + offset
    data[place : place + len(size)] = size
    return bytes(data)


def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_with(before=b"", after=b""):
    data = encoded(picture(64, 64, 0), "PNG")
    return data[:33] + before + data[33:-12] + after + data[-12:]


def forged_png(width, height):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return encoded(picture(64, 64, 0), "PNG")[:8] + header + png_with()[33:]


def forged_jpeg(width, height):
    return forged("JPEG", b"\xff\xc0", 5, struct.pack(">HH", height, width))


def tiff(side, tile):
    """A square image of one tile."""
    entries = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 8,
               325: len(BOMB)}  # fmt: skip
    data = BOMB + bytes(len(BOMB) % 2)
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    start = struct.pack("<I", 8 + len(data))
    return b"II*\0" + start + data + struct.pack("<H", len(entries)) + directory + bytes(4)


REFUSED = {
    "JPEG": forged_jpeg(SIDE, SIDE),
    "JPEG within Pillow's own limit": forged_jpeg(12_000, 12_000),
    "PNG": forged_png(SIDE, SIDE),
    "BMP": forged("BMP", b"BM", 18, struct.pack("<ii", SIDE, SIDE)),
    "GIF": forged("GIF", b"GIF8", 6, struct.pack("<HH", SIDE, SIDE)),
    "PPM": b"P6\n60000 60000\n255\n" + bytes(1000),
    "WebP": forged("WEBP", b"VP8X", 12, (SIDE - 1).to_bytes(3, "little") * 2, save_all=True,
                   append_images=[picture(64, 64, 1)]),
    "TIFF": tiff(SIDE, 64),
    "TIFF with a large tile": tiff(64, SIDE),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_a_header_of_billions_of_pixels_is_refused_before_any_is_decoded(name, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # else it is no Refused
    with pytest.raises(images.Refused, match="the bomb .* take it away"):
        images.decode(REFUSED[name], "the bomb", 64, 3)


def test_what_the_bombs_are_made_from_can_be_decoded():
    for data in (forged_jpeg(64, 64), forged_png(64, 64), tiff(64, 64)):
        assert images.decode(data, "it", 64, 3).shape == (64, 64, 3)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_text_in_a_png_is_not_unpacked_without_a_limit(kind, place):
    content = b"a\0\1\0\0\0" + BOMB if kind == b"iTXt" else b"a\0\0" + BOMB
    data = png_with(**{place: chunk(kind, content)})
    with pytest.raises(images.Undecodable, match="Decompressed data too large"):
        images.decode(data, "it", 64, 3)


def test_of_many_frames_the_first_is_decoded_alone():
    frames = [picture(64, 64, seed).quantize() for seed in range(50)]
    whole = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    alone = encoded(frames[0], "GIF")
    cut = whole[: len(alone) + 100]  # the other frames are not there
    expected = images.decode(alone, "it", 64, 3)
    for data in (whole, cut):
        np.testing.assert_array_equal(images.decode(data, "it", 64, 3), expected)


@pytest.mark.parametrize(
    "data",
    [forged_jpeg(SIDE, SIDE), forged_png(SIDE, SIDE), encoded(picture(128, 128, 0), "PNG"),
     jpeg(128, 128, 0), jpeg(32, 32, 0), encoded(picture(32, 32, 0), "PNG"), jpeg(32, 128, 0),
     encoded(picture(32, 128, 0), "PNG"), forged("GIF", b"GIF8", 6, struct.pack("<HH", 99, 99))],
)  # fmt: skip
def test_a_record_of_another_size_is_not_decoded_into_a_batch(data):
    pixels = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises((ValueError, images.BadImage)):
        prepared.decode_into(data, pixels)


def test_a_larger_png_in_a_record_is_judged_by_its_header(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # else it is no Refused
    with pytest.raises(images.Refused, match="128 x 128 pixels is beyond .* 4,096 pixels"):
        prepared.decode_into(encoded(picture(128, 128, 0), "PNG"), np.zeros((64, 64, 3), np.uint8))


def sparse(path, size):
    """A file of this length that takes no place on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def test_a_file_of_a_terabyte_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        sparse(tmp_path / split / "cat/1.jpg", 2**40)
    with pytest.raises(images.Refused, match="1.jpg is longer than 1,048,576 bytes"):
        sources.Folder(tmp_path, "train", 8, 3).load([0])
    (record,) = open_origin(f"folder:{tmp_path}").splits["train"].read([0])
    assert len(record.data) == 2**20 + 1
    with pytest.raises(images.Refused), images.open_image(record.data, record.name):
        pass


def declared(shape, descr="<i4"):
    buffer = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


@pytest.mark.parametrize("mapped", [True, False])
def test_an_array_file_cannot_declare_more_than_it_holds(mapped, tmp_path):
    (tmp_path / "a.npy").write_bytes(declared((10**13,)) + bytes(100))
    with pytest.raises(UserError, match="a.npy can't be read .*: get it again"):
        arrays.load(tmp_path / "a.npy", "get it again", mapped)


def test_an_archive_cannot_hold_more_than_its_length(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, zeros=np.zeros(2**24, np.uint8))
    with pytest.raises(UserError, match="it holds more than it is long"):
        arrays.load_archive(path, "get it again")
    np.savez(path, zeros=np.zeros(9, np.uint8))
    assert arrays.load_archive(path, "get it again")["zeros"].tolist() == [0] * 9
    path.write_bytes(path.read_bytes().replace(b"'shape': (9,)", b"'shape': (9" + b"0" * 12 + b",)")
                     )  # fmt: skip
    with pytest.raises(UserError, match="a.npz can't be read"):
        arrays.load_archive(path, "get it again")


def test_a_row_group_of_gigabytes_is_refused(tmp_path, monkeypatch):
    source = layouts.parquet(tmp_path, small_set())
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(UserError, match="row group of [0-9,]+ bytes, which would be held"):
        open_origin(source)


def test_a_sparse_image_in_a_tar_cannot_claim_a_terabyte(tmp_path):
    source = layouts.imagenet_tars(tmp_path, small_set())
    headers = {"GNU.sparse.map": "0,9", "GNU.sparse.size": str(2**40)}
    member = tarfile.TarInfo("a.JPEG")
    member.size, member.pax_headers = 9, headers
    with tarfile.open(tmp_path / "ILSVRC2012_img_val.tar", "w") as tar:
        tar.addfile(member, io.BytesIO(bytes(9)))
    with pytest.raises(UserError, match="val.tar is no tar, or not a whole one"):
        open_origin(source)


def mat(element):
    """A file of MATLAB's with one element."""
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + element


CELLS = struct.pack("<4I2I2i2I8s", 6, 8, 1, 0, 5, 8, 2**15, 2**15, 1, 7, b"synsets\0")
MATS = {
    "a billion cells": mat(struct.pack("<II", 14, len(CELLS)) + CELLS),
    "compressed zeros": mat(struct.pack("<II", 15, len(BOMB)) + BOMB),
    "of version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(500),
}


@pytest.mark.parametrize("name", MATS)
def test_a_devkit_cannot_claim_gigabytes(name, tmp_path):
    source = layouts.imagenet_tars(tmp_path, small_set())
    files = {f"kit/{imagenet_tars.META}": MATS[name], f"kit/{imagenet_tars.TRUTH}": b"1"}
    (tmp_path / imagenet_tars.DEVKIT).write_bytes(layouts.tar_of(files, "w:gz"))
    with pytest.raises(UserError, match=r"devkit_t12.tar.gz.*: get it again"):
        open_origin(source)


def test_a_devkit_of_compressed_zeros_is_not_unpacked_without_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet_tars, "MAX_DEVKIT_BYTES", 2**27)
    source = layouts.imagenet_tars(tmp_path, small_set())
    member = tarfile.TarInfo(f"kit/{imagenet_tars.META}")
    member.size = 2**28
    with gzip.open(tmp_path / imagenet_tars.DEVKIT, "wb", compresslevel=1) as file:
        file.write(member.tobuf())
        for _ in range(member.size // 2**20 + 1):
            file.write(bytes(2**20))
    with pytest.raises(UserError, match="too large.*: get it again"):
        open_origin(source)


def test_the_limit_on_memory_holds_for_the_devkit_alone():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with imagenet_tars._limited_memory(2**28), pytest.raises(MemoryError):
        np.empty(2**30, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    np.empty(2**30, np.uint8)
