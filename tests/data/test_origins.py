"""Every layout gives back what was laid out: each record once, with its bytes, label and name."""

import functools
import json
import multiprocessing
import pathlib
import pickle
import shutil
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from tests.support import layouts
from tests.support.layouts import BIRD, DOG, FISH, small_set
from tests.support.odd_images import jpeg

IN_CLASS_FOLDERS = {("folder", "train"), ("folder", "val"), ("kaggle", "train"),
                    ("imagenet_tars", "train")}  # fmt: skip


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Writes a layout once and tells where."""

    @functools.cache
    def write(kind):
        root = tmp_path_factory.mktemp(kind)
        return root, layouts.LAYOUTS[kind](root, small_set())

    return write


@pytest.fixture
def opened(written, monkeypatch):
    def open_layout(kind):
        root, source = written(kind)
        monkeypatch.setenv("TFDS_DATA_DIR", str(root))
        return open_origin(source)

    return open_layout


def by_name(records):
    records_by_name = {pathlib.PurePath(record.name).name: record for record in records}
    assert len(records_by_name) == len({record.name for record in records}) == len(records)
    return records_by_name


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_every_record_comes_back_once_with_its_bytes_label_and_name(kind, opened, written):
    origin = opened(kind)
    assert origin.classes == (FISH, BIRD, DOG)
    assert set(origin.splits) == {"train", "val", "test"}
    for split, records in origin.splits.items():
        expected = {file: rest for file, *rest in layouts.labelled(small_set(), split)}
        named = by_name(list(records.read(range(len(records)))))
        assert {file: [r.data, r.label] for file, r in named.items()} == expected
        if (kind, split) in IN_CLASS_FOLDERS:
            names = {record.name: record.label for record in named.values()}
            assert {name.split("/")[0]: label for name, label in names.items()} == {
                FISH: 0, BIRD: 1, DOG: 2
            }  # fmt: skip
    assert origin.facts["kind"] == written(kind)[1].partition(":")[0]
    assert json.loads(json.dumps(origin.facts)) == origin.facts


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_records_come_in_the_order_that_is_asked_for(kind, opened):
    records = opened(kind).splits["train"]
    straight = list(records.read(range(len(records))))
    ids = np.random.default_rng(0).integers(0, len(records), 40)
    assert list(records.read(ids)) == [straight[record] for record in ids]
    assert list(records.read([])) == []
    if records.blocks is not None:
        assert records.blocks.dtype == np.int64
        assert records.blocks[0] == 0
        assert np.all(np.diff(records.blocks) > 0)
        assert records.blocks[-1] < len(records)


def read_all(records):
    """For another process: all records, and whether that took TensorFlow."""
    return list(records.read(range(len(records)))), "tensorflow" in sys.modules


def test_other_processes_read_the_same(opened):
    """After the split was used here, as one that holds open files would be."""
    splits = [opened(kind).splits["train"] for kind in layouts.LAYOUTS]
    here = [list(records.read(range(len(records)))) for records in splits]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for expected, (there, took_tensorflow) in zip(
            here, pool.map(read_all, splits), strict=True
        ):
            assert there == expected
            assert not took_tensorflow


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_what_is_sent_to_another_process_does_not_grow_by_reading(kind, opened):
    records = opened(kind).splits["train"]
    fresh = pickle.dumps(records)
    list(records.read(range(len(records))))
    assert pickle.dumps(records) == fresh
    assert len(fresh) < 4000


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_fingerprints_tell_sets_apart(kind, opened, tmp_path, monkeypatch):
    first = opened(kind)
    again = opened(kind)
    prints = [split.fingerprint for split in first.splits.values()]
    assert len(set(prints)) == 3
    assert prints == [split.fingerprint for split in again.splits.values()]
    changed = small_set() | {"train": small_set()["train"] | {BIRD: {"new_1.JPEG": jpeg(9, 9, 0)}}}
    source = layouts.LAYOUTS[kind](tmp_path, changed)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    other = open_origin(source)
    assert other.splits["train"].fingerprint != first.splits["train"].fingerprint
    if not kind.startswith("tfds"):  # they do not shuffle in the same way everywhere
        assert other.splits["val"].fingerprint == first.splits["val"].fingerprint


def test_imagenet_knows_the_devkits_numbers_and_words(opened):
    facts = opened("imagenet_tars").facts
    numbers = layouts.ilsvrc_ids(small_set())
    assert facts["ilsvrc_ids"] == [numbers[name] for name in (FISH, BIRD, DOG)] == [3, 2, 1]
    words = [layouts.words_of(name) for name in (FISH, BIRD, DOG)]
    assert facts["class_words"] == opened("kaggle").facts["class_words"] == words


@pytest.mark.parametrize("kind", ["kaggle", "imagenet_tars"])
def test_flat_splits_are_in_the_order_of_their_names(kind, opened):
    records = opened(kind).splits["val"]
    names = [pathlib.PurePath(r.name).stem for r in records.read(range(4))]
    assert names == [f"ILSVRC2012_val_{number:08}" for number in (1, 2, 3, 4)]
    assert [record.label for record in records.read(range(4))] == [2, 0, 0, 1]


@pytest.mark.parametrize("below", ["ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_folder_is_found_from_anywhere_between(below, written):
    root, _ = written("kaggle")
    origin = open_origin(f"folder:{root / below}")
    assert [len(split) for split in origin.splits.values()] == [16, 4, 3]
    assert "class_words" in origin.facts


def test_what_is_left_behind_by_others_is_left_out(tmp_path):
    images = {
        "train": {FISH: {"a.JPEG": b"1"}, BIRD: {"b.JPEG": b"2"}},
        "val": {FISH: {"v1.JPEG": b"3"}},
    }
    hidden = {"._a.JPEG": b"Apple's", ".DS_Store": b"Apple's"}
    untidy = {split: {name: files | {f"._{split}{name}": b"Apple's"} for name, files in
                      classes.items()} for split, classes in images.items()}  # fmt: skip
    for kind in ("folder", "imagenet_tars"):
        origin = open_origin(layouts.LAYOUTS[kind](tmp_path / kind, untidy))
        assert [len(split) for split in origin.splits.values()] == [2, 1]
    place = tmp_path / "folder/train" / FISH
    for name in (*hidden, "Thumbs.db", "desktop.ini"):
        (place / name).write_bytes(b"not listed")
    (place / "notes.txt").write_bytes(b"listed, so that it is reported")
    assert len(open_origin(f"folder:{tmp_path / 'folder'}").splits["train"]) == 3


def test_the_validation_split_can_be_named(tmp_path):
    images = {"train": {FISH: {"a": b"1"}}, "val": {FISH: {"b": b"2"}}, "test": {FISH: {"c": b"3"}}}
    layouts.folder(tmp_path / "folder", images)
    layouts.parquet(tmp_path / "parquet", images)
    for kind in ("folder", "parquet"):
        origin = open_origin(f"{kind}:{tmp_path / kind}", "test")
        assert set(origin.splits) == {"train", "val"}
        assert next(origin.splits["val"].read([0])).data == b"3"
        assert set(open_origin(f"{kind}:{tmp_path / kind}").splits) == {"train", "val", "test"}
    shutil.rmtree(tmp_path / "folder/val")
    assert next(open_origin(f"folder:{tmp_path / 'folder'}").splits["val"].read([0])).data == b"3"


def test_parquet_without_metadata_has_numbered_classes(tmp_path):
    layouts.parquet(tmp_path, small_set(), metadata=False)
    assert open_origin(f"parquet:{tmp_path}").classes == ("0", "1", "2")


@pytest.mark.parametrize("config", [".", "plain_text"])
def test_hugging_faces_other_layout(config, tmp_path, written):
    root, _ = written("parquet")
    for split in ("train", "validation", "test"):
        (tmp_path / config / split).mkdir(parents=True)
        for number, path in enumerate(sorted((root / "data").glob(f"{split}-*"))):
            shutil.copy(path, tmp_path / config / split / f"{number:04}.parquet")
    origin = open_origin(f"parquet:{tmp_path}")
    expected = open_origin(f"parquet:{root}")
    for split, records in expected.splits.items():
        assert list(origin.splits[split].read(range(len(records)))) == list(
            records.read(range(len(records)))
        )
    if config != ".":
        shutil.copytree(tmp_path / config, tmp_path / "other")
        with pytest.raises(UserError, match=r"several sets \(other, plain_text\)"):
            open_origin(f"parquet:{tmp_path}")


def test_parquet_reads_a_row_group_once_while_it_stays_in_it(opened, monkeypatch):
    records = opened("parquet").splits["train"]
    read, groups = pq.ParquetFile.read_row_group, []

    def noted(self, group, *args, **kwargs):
        groups.append(group)
        return read(self, group, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    list(records.read(range(len(records))))
    assert len(groups) == len(records.blocks) > 2
