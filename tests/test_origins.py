"""Every layout gives back what was laid out: each record once, with its bytes, label and name."""

import functools
import json
import multiprocessing
import pathlib
import pickle
import re
import shutil
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alexnet_jax.data.origins import open_origin
from alexnet_jax.errors import UserError
from tests import layouts
from tests.odd_images import jpeg, odd_images

FISH, BIRD, DOG = "n01440764", "n01530575", "n02099601"
IN_CLASS_FOLDERS = {("folder", "train"), ("folder", "val"), ("kaggle", "train"),
                    ("imagenet_tars", "train")}  # fmt: skip


@functools.cache
def laid_out():
    """Three classes of unequal size; validation is not in the order of classes."""
    random = iter(range(100))

    def some(prefix, count):
        return {f"{prefix}_{number}.JPEG": jpeg(20, 16, next(random)) for number in range(count)}

    order = (DOG, FISH, FISH, BIRD)
    validation = {name: {} for name in (FISH, BIRD, DOG)}
    for number, name in enumerate(order, start=1):
        validation[name][f"ILSVRC2012_val_{number:08}.JPEG"] = jpeg(16, 20, next(random))
    return {
        "train": {
            DOG: some(DOG, 5),
            FISH: some(FISH, 2) | {f"{FISH}_{name}": data for name, data in odd_images().items()},
            BIRD: some(BIRD, 3),
        },
        "val": validation,
        "test": {"": some("ILSVRC2012_test", 3)},
    }


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Writes a layout once and tells where."""

    @functools.cache
    def write(kind):
        root = tmp_path_factory.mktemp(kind)
        return root, layouts.LAYOUTS[kind](root, laid_out())

    return write


@pytest.fixture
def opened(written, monkeypatch):
    def open_layout(kind):
        root, source = written(kind)
        monkeypatch.setenv("TFDS_DATA_DIR", str(root))
        return open_origin(source)

    return open_layout


@pytest.fixture
def own(written, tmp_path):
    """A copy of a layout to damage."""

    def copy(kind):
        root, source = written(kind)
        shutil.copytree(root, tmp_path / "own")
        return tmp_path / "own", f"{source.partition(':')[0]}:{tmp_path / 'own'}"

    return copy


def by_name(records):
    found = {pathlib.PurePath(record.name).name: record for record in records}
    assert len(found) == len({record.name for record in records}) == len(records)
    return found


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_every_record_comes_back_once_with_its_bytes_label_and_name(kind, opened):
    origin = opened(kind)
    assert origin.classes == (FISH, BIRD, DOG)
    assert set(origin.splits) == {"train", "val", "test"}
    for split, records in origin.splits.items():
        expected = {file: rest for file, *rest in layouts.labelled(laid_out(), split)}
        found = by_name(list(records.read(range(len(records)))))
        assert {file: [r.data, r.label] for file, r in found.items()} == expected
        if (kind, split) in IN_CLASS_FOLDERS:
            names = {record.name: record.label for record in found.values()}
            assert {name.split("/")[0]: label for name, label in names.items()} == {
                FISH: 0, BIRD: 1, DOG: 2
            }  # fmt: skip
    assert (
        origin.facts["kind"] == kind.split("_")[0]
        or kind == origin.facts["kind"]
        or kind == "kaggle"
    )
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
def test_what_is_sent_to_another_process_is_small(kind, opened):
    records = opened(kind).splits["train"]
    list(records.read([0]))
    assert len(pickle.dumps(records)) < 4000


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_fingerprints_tell_sets_apart(kind, opened, written, tmp_path, monkeypatch):
    first = opened(kind)
    again = opened(kind)
    prints = [split.fingerprint for split in first.splits.values()]
    assert len(set(prints)) == 3
    assert prints == [split.fingerprint for split in again.splits.values()]
    changed = laid_out() | {"train": laid_out()["train"] | {BIRD: {"new_1.JPEG": jpeg(9, 9, 0)}}}
    source = layouts.LAYOUTS[kind](tmp_path, changed)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    other = open_origin(source)
    assert other.splits["train"].fingerprint != first.splits["train"].fingerprint
    if not kind.startswith("tfds"):  # they do not shuffle in the same way everywhere
        assert other.splits["val"].fingerprint == first.splits["val"].fingerprint


def test_imagenet_knows_the_devkits_numbers_and_words(opened):
    facts = opened("imagenet_tars").facts
    numbers = layouts.ilsvrc_ids(laid_out())
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


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("/data/imagenet", "KIND:WHERE"),
        ("folder:", "KIND:WHERE"),
        ("zip:/data", "no kind of source 'zip'"),
        ("folder:/nowhere/at/all", "/nowhere/at/all is not a folder"),
        ("parquet:/nowhere/at/all", "/nowhere/at/all is not a folder"),
        ("tfds:no_such_set", "'no_such_set'"),
    ],
)
def test_a_source_that_is_none(source, said, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        open_origin(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "parquet", "imagenet_tars"])
def test_an_empty_folder_is_no_set(kind, tmp_path):
    with pytest.raises(UserError, match="expected|needs"):
        open_origin(f"{kind}:{tmp_path}")


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_a_validation_split_that_is_not_there(kind, written, monkeypatch):
    root, source = written(kind)
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    with pytest.raises(UserError, match="'holdout'"):
        open_origin(source, "holdout")


def damaged(change, own, kind, said):
    root, source = own(kind)
    change(root)
    with pytest.raises(UserError, match=said):
        open_origin(source)


FOLDER_DAMAGE = {
    "a class that training lacks": (
        lambda root: (root / "train" / DOG).rename(root / "train/n99"), f"class '{DOG}'"),
    "no training": (lambda root: (root / "train").rename(root / "other"), "no folder train"),
    "no validation": (
        lambda root: [shutil.rmtree(root / split) for split in ("val", "test")], "validate"),
    "an empty class": (lambda root: (root / "train/n99").mkdir(), "n99 holds no images"),
    "a folder in a class": (
        lambda root: (root / "train" / DOG / "images").mkdir(), "images is no file"),
    "no class folders": (
        lambda root: [shutil.rmtree(path) for path in (root / "train").iterdir()],
        "no class folders"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDER_DAMAGE)
def test_a_damaged_folder(name, own):
    change, said = FOLDER_DAMAGE[name]
    damaged(change, own, "folder", said)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


CSV, PLACE = "LOC_val_solution.csv", "ILSVRC/Data/CLS-LOC"
KAGGLE_DAMAGE = {
    "an image without a row": (
        lambda root: (root / PLACE / "val/extra.JPEG").write_bytes(b"x"), r"extra\..* has no row"),
    "a row without an image": (
        lambda root: (root / PLACE / "val/ILSVRC2012_val_00000002.JPEG").unlink(),
        "row 'ILSVRC2012_val_00000002'"),
    "a class that training lacks": (
        lambda root: edit(root / CSV, f",{BIRD} ", ",n99 "), r"solution.csv, line \d"),
    "no such columns": (lambda root: edit(root / CSV, "ImageId", "Image"), "columns ImageId"),
    "no rows": (lambda root: (root / CSV).write_text("ImageId,PredictionString\n"), "no rows"),
    "no list": (lambda root: (root / CSV).unlink(), f"no {CSV}"),
}  # fmt: skip


@pytest.mark.parametrize("name", KAGGLE_DAMAGE)
def test_a_damaged_kaggle_folder(name, own):
    change, said = KAGGLE_DAMAGE[name]
    root, _ = own("kaggle")
    change(root)
    with pytest.raises(UserError, match=said):
        open_origin(f"folder:{root}")


def shorten(path, size):
    path.write_bytes(path.read_bytes()[:size])


def after_the_first_image(path):
    """Where a flat tar has its second header: a cut that leaves whole members alone."""
    with tarfile.open(path) as tar:
        return tar.getmembers()[1].offset


def rewrite_devkit(root, change):
    path = root / "ILSVRC2012_devkit_t12.tar.gz"
    with tarfile.open(path) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    path.write_bytes(
        layouts.tar_of({name: change(name, data) for name, data in files.items()}, "w:gz")
    )


TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
TARS_DAMAGE = {
    "no validation tar": (lambda root: (root / VAL).unlink(), f"{VAL} is missing"),
    "no tar": (lambda root: (root / VAL).write_bytes(b"<html>" * 500), f"{VAL} is no tar"),
    "an empty file": (lambda root: (root / VAL).write_bytes(b""), f"{VAL} is no tar"),
    "cut inside an image": (
        lambda root: shorten(root / VAL, after_the_first_image(root / VAL) - 100), "not a whole"),
    "cut between two images": (
        lambda root: shorten(root / VAL, after_the_first_image(root / VAL)), "not a whole"),
    "training cut inside a class": (
        lambda root: shorten(root / TRAIN, (root / TRAIN).stat().st_size // 2), "not a whole"),
    "a class tar that is none": (
        lambda root: (root / TRAIN).write_bytes(layouts.tar_of({f"{DOG}.tar": b"x" * 3000})),
        f"{DOG}.tar in .* is no tar"),
    "a class tar cut short": (
        lambda root: (root / TRAIN).write_bytes(layouts.tar_of({
            f"{DOG}.tar": layouts.tar_of({"a": b"1" * 600, "b": b"2" * 600})[:2048],
            f"{FISH}.tar": layouts.tar_of({"c": b"3"})})),
        f"{DOG}.tar in .* is no tar, or not a whole"),
    "a foreign class": (
        lambda root: (root / TRAIN).write_bytes(layouts.tar_of({"n99.tar": layouts.tar_of({})})),
        "'n99.tar', which is no class tar"),
    "a missing class": (
        lambda root: (root / TRAIN).write_bytes(
            layouts.tar_of({f"{DOG}.tar": layouts.tar_of({"a": b"1"})})), f"lacks {FISH}.tar"),
    "one line too few": (
        lambda root: rewrite_devkit(
            root, lambda name, data: data[:-2] if name.endswith(".txt") else data),
        "4 images, .* 3 lines"),
    "a number of no class": (
        lambda root: rewrite_devkit(
            root, lambda name, data: b"9" + data[1:] if name.endswith(".txt") else data),
        "'9' that is the ILSVRC2012_ID of no class"),
    "no list of synsets": (
        lambda root: rewrite_devkit(
            root, lambda name, data: b"x" * 500 if name.endswith(".mat") else data),
        "no list of synsets"),
    "no devkit": (
        lambda root: (root / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"x"), "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", TARS_DAMAGE)
def test_damaged_tars(name, own):
    change, said = TARS_DAMAGE[name]
    damaged(change, own, "imagenet_tars", said)


def test_a_tar_that_shrinks_after_it_was_opened(own):
    root, source = own("imagenet_tars")
    records = open_origin(source).splits["val"]
    shorten(root / VAL, 700)
    with pytest.raises(UserError, match="ends within"):
        list(records.read(range(4)))


@pytest.mark.parametrize("kind", ["tfds_tfrecord", "tfds_array_record"])
def test_damaged_sets_of_tensorflow_datasets(kind, own, monkeypatch):
    root, _ = own(kind)
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    path = sorted(root.glob("miniature/*/miniature-train*"))[0]
    shorten(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=re.escape(path.name)):
        open_origin("tfds:miniature")
    path.unlink()
    with pytest.raises(UserError, match=re.escape(f"{path.name} is missing")):
        open_origin("tfds:miniature")


def test_a_tfrecord_with_whole_records_missing(own, monkeypatch):
    root, _ = own("tfds_tfrecord")
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    path = sorted(root.glob("miniature/*/miniature-train*"))[0]
    length = int.from_bytes(path.read_bytes()[:8], "little")
    shorten(path, 12 + length + 4)
    with pytest.raises(UserError, match="holds 1 records, but its set says"):
        open_origin("tfds:miniature")


def without_training(images):
    """The least that tensorflow-datasets can store."""
    return {split: {FISH: {f"{split}.JPEG": jpeg(8, 8, 0)}} for split in ("train", "val")} | images


@pytest.mark.parametrize("case", ["no file names", "no images", "two images", "no keys"])
def test_the_features_of_a_set_decide(case, tmp_path, monkeypatch):
    from tensorflow_datasets import features as kinds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    images = without_training({})
    label = kinds.ClassLabel(names=[FISH])
    features, supervised = {
        "no file names": ({"image": kinds.Image(), "label": label}, ("image", "label")),
        "no images": ({"file_name": kinds.Text(), "label": label}, None),
        "two images": ({"image": kinds.Image(), "image2": kinds.Image(), "label": label}, None),
        "no keys": ({"image": kinds.Image(), "label": label}, None),
    }[case]
    source = layouts.tfds_set(tmp_path, images, "tfrecord", features, supervised)
    if case in ("no images", "two images"):
        with pytest.raises(UserError, match="no set for image classification"):
            open_origin(source)
        return
    record = next(open_origin(source).splits["train"].read([0]))
    data = images["train"][FISH]["train.JPEG"]
    assert record == ("miniature-train.tfrecord-00000-of-00001__0", 0, data)


def test_parquet_without_metadata_has_numbered_classes(tmp_path):
    layouts.parquet(tmp_path, laid_out(), metadata=False)
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


def rewrite_table(path, change):
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def replace(table, name, column):
    place = table.schema.get_field_index(name)
    changed = table.set_column(place, name, column)
    return changed.replace_schema_metadata(table.schema.metadata)


FIRST = "data/train-00000-of-00002.parquet"
PARQUET_DAMAGE = {
    "a part that is missing": (lambda root: (root / FIRST).unlink(), "lacks part 0"),
    "a part cut short": (lambda root: shorten(root / FIRST, 900), "can't be read"),
    "no images": (
        lambda root: [rewrite_table(path, lambda t: t.drop_columns("image"))
                      for path in root.glob("data/*")], "no set for image classification"),
    "parts of two sets": (
        lambda root: rewrite_table(root / FIRST, lambda t: t.replace_schema_metadata(None)),
        "other columns or classes"),
    "a label without a name": (
        lambda root: rewrite_table(
            root / FIRST, lambda t: replace(t, "label", pa.array([7] * len(t)))), "label 7"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARQUET_DAMAGE)
def test_damaged_parquet(name, own):
    change, said = PARQUET_DAMAGE[name]
    damaged(change, own, "parquet", said)


def test_parquet_names_are_unique_even_where_its_paths_are_not(own):
    root, source = own("parquet")

    def same_path(table):
        rows = [{"bytes": row["bytes"], "path": "image.jpg"} for row in table["image"].to_pylist()]
        return replace(table, "image", pa.array(rows, table.schema.field("image").type))

    rewrite_table(root / FIRST, same_path)
    records = open_origin(source).splits["train"]
    names = [record.name for record in records.read(range(len(records)))]
    assert names[:2] == [f"{pathlib.Path(FIRST).name}__{row}" for row in (0, 1)]
    assert len(set(names)) == len(names)


def test_parquet_that_holds_paths_alone(own):
    root, source = own("parquet")

    def without_bytes(table):
        rows = [{"bytes": None, "path": row["path"]} for row in table["image"].to_pylist()]
        return replace(table, "image", pa.array(rows, table.schema.field("image").type))

    rewrite_table(root / FIRST, without_bytes)
    with pytest.raises(UserError, match="only a path"):
        list(open_origin(source).splits["train"].read([0]))
