"""A set of images neither names code to run nor files outside its folder."""

import io
import json
import os
import pathlib
import shutil
import tarfile

import pytest

from alexnet_jax.data import images, prepared, sources
from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from tests.support import layouts, preparing
from tests.support.layouts import small_set
from tests.support.odd_images import jpeg
from tests.support.preparing import SIZE


def test_postscript_is_no_image(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript, in whose place stands a program that leaves a mark."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\nmkdir {tmp_path / 'ran'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(images.Undecodable):
        images.decode(page, "page.jpg", SIZE, 3)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def miniature_set(tmp_path, monkeypatch):
    """A set of tensorflow-datasets to be damaged: its name and its folder."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = layouts.tfds_tfrecord(tmp_path, small_set())
    return source, next((tmp_path / "miniature").iterdir())


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name"])
def test_a_set_that_names_code_is_refused(key, linked, miniature_set, tmp_path, monkeypatch):
    source, folder = miniature_set
    (tmp_path / "named_by_a_set.py").write_text("import os; os.mkdir(__file__ + '.ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    edit(folder / "features.json", '"pythonClassName": "tensorflow_datasets.core.features.text_',
         f'"{key}": "named_by_a_set.')  # fmt: skip
    if linked:
        folder.rename(tmp_path / "moved")
        folder.symlink_to(tmp_path / "moved")
    with pytest.raises(UserError, match="features.json names the code named_by_a_set"):
        open_origin(source)
    assert not (tmp_path / "named_by_a_set.py.ran").exists()


def test_sets_whose_code_would_be_fetched_are_refused():
    with pytest.raises(UserError, match="'kubric:movi' is of a namespace, whose code"):
        open_origin("tfds:kubric:movi")


def test_a_set_cannot_name_files_elsewhere(miniature_set, tmp_path):
    source, folder = miniature_set
    (tmp_path / "elsewhere").mkdir()
    for path in folder.glob("*tfrecord*"):
        shutil.copy(path, tmp_path / "elsewhere")
    edit(folder / "dataset_info.json", '"{DATASET}-', '"../../elsewhere/{DATASET}-')
    with pytest.raises(UserError, match="names files that lie elsewhere"):
        open_origin(source)


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "x/../../elsewhere/x"), ("name", "/etc/x"), ("splits", [1]),
     ("splits", {"../train": {"shards": [14], "fingerprint": "0"}}),
     ("splits", {"train": {"shards": [-1], "fingerprint": "0"}}), ("size", "64"),
     ("classes", None), ("format", "pickle"), ("ilsvrc_ids", [1])],
)  # fmt: skip
def test_a_prepared_set_cannot_be_described_otherwise(field, value, prepared_set):
    path = prepared_set("jpeg") / prepared.FACTS
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(UserError, match="prepared.json can't be used .*: prepare the set anew"):
        prepared.Prepared(path.parent, "train", SIZE, 3)


def member(name, kind=tarfile.REGTYPE, data=b"", link="", **headers):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.pax_headers = kind, link, len(data), headers
    return info, data


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))


def test_links_and_paths_in_a_tar_lead_nowhere(tmp_path):
    source = layouts.imagenet_tars(tmp_path / "tars", small_set())
    val = tmp_path / "tars/ILSVRC2012_img_val.tar"
    files = [jpeg(9, 9, seed) for seed in range(4)]
    (tmp_path / "secret").write_bytes(b"secret")
    members = [
        member("../../ILSVRC2012_val_1.JPEG", data=files[0]),
        member(f"{tmp_path}/outside/ILSVRC2012_val_2.JPEG", data=files[1]),
        member("link.JPEG", tarfile.SYMTYPE, link=str(tmp_path / "secret")),
        member("hard.JPEG", tarfile.LNKTYPE, link="../secret"),
        member("device.JPEG", tarfile.CHRTYPE),
        member("pipe.JPEG", tarfile.FIFOTYPE),
        member("ILSVRC2012_val_3.JPEG", data=files[2]),
        member("a\n\x1b[2J.JPEG", data=files[3]),
    ]
    write_tar(val, members)
    before = sorted(tmp_path.rglob("*"))
    records = list(open_origin(source).splits["val"].read(range(4)))
    assert [record.data for record in records] == files
    assert sorted(tmp_path.rglob("*")) == before
    _, splits = preparing.make(source, tmp_path / "set")
    names = [splits["val"].name(record) for record in range(4)]
    assert names == [f"ILSVRC2012_val_{number}.JPEG" for number in (1, 2, 3)] + ["a??[2J.JPEG"]


def test_links_to_images_are_images_but_pipes_and_devices_are_not(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat/1.jpg").write_bytes(jpeg(9, 9, 0))
    (tmp_path / "elsewhere.jpg").write_bytes(jpeg(9, 9, 1))
    place = tmp_path / "train/cat"
    (place / "2.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (tmp_path / "train/dog").symlink_to(place)
    assert len(sources.Folder(tmp_path, "train", 8, 3)) == 4
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), pathlib.Path.mkdir):
        make(place / "3.jpg")
        with pytest.raises(UserError, match="3.jpg is not an image"):
            sources.Folder(tmp_path, "train", 8, 3)
        with pytest.raises(UserError, match="3.jpg is no file"):
            open_origin(f"folder:{tmp_path}")
        shutil.rmtree(place / "3.jpg") if (place / "3.jpg").is_dir() else (place / "3.jpg").unlink()
