"""What is wrong with a set is message in one sentence that names it."""

import pathlib
import re
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets import features as kinds

from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from tests.support import layouts
from tests.support.layouts import BIRD, DOG, FISH, small_set
from tests.support.odd_images import jpeg


@pytest.fixture
def make_source(tmp_path, monkeypatch):
    """Writes a layout to damage and tells where."""

    def write(kind):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        return tmp_path, layouts.LAYOUTS[kind](tmp_path, small_set())

    return write


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/data/imagenet", "KIND:WHERE"),
        ("folder:", "KIND:WHERE"),
        ("zip:/data", "no kind of source 'zip'"),
        ("folder:/nowhere/at/all", "/nowhere/at/all is not a folder"),
        ("parquet:/nowhere/at/all", "/nowhere/at/all is not a folder"),
        ("tfds:no_such_set", "'no_such_set'"),
    ],
)
def test_a_source_that_is_none(source, message, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        open_origin(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "parquet", "imagenet_tars"])
def test_an_empty_folder_is_no_set(kind, tmp_path):
    with pytest.raises(UserError, match="expected|needs"):
        open_origin(f"{kind}:{tmp_path}")


@pytest.mark.parametrize("kind", layouts.LAYOUTS)
def test_a_validation_split_that_is_not_there(kind, make_source):
    _, source = make_source(kind)
    with pytest.raises(UserError, match="'holdout'"):
        open_origin(source, "holdout")


def damaged(change, make_source, kind, message):
    root, source = make_source(kind)
    change(root)
    with pytest.raises(UserError, match=message):
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
def test_a_damaged_folder(name, make_source):
    change, message = FOLDER_DAMAGE[name]
    damaged(change, make_source, "folder", message)


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
def test_a_damaged_kaggle_folder(name, make_source):
    change, message = KAGGLE_DAMAGE[name]
    root, _ = make_source("kaggle")
    change(root)
    with pytest.raises(UserError, match=message):
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
            f"{DOG}.tar": layouts.tar_of({"a": b"1" * 600, "b": b"2" * 600})[:1536],
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
def test_damaged_tars(name, make_source):
    change, message = TARS_DAMAGE[name]
    damaged(change, make_source, "imagenet_tars", message)


def test_a_tar_that_shrinks_after_it_was_opened(make_source):
    root, source = make_source("imagenet_tars")
    records = open_origin(source).splits["val"]
    shorten(root / VAL, 700)
    with pytest.raises(UserError, match="ends within"):
        list(records.read(range(4)))


@pytest.mark.parametrize("kind", ["tfds_tfrecord", "tfds_array_record"])
def test_damaged_sets_of_tensorflow_datasets(kind, make_source):
    root, source = make_source(kind)
    path = sorted(root.glob("miniature/*/miniature-train*"))[0]
    shorten(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=re.escape(path.name)):
        open_origin(source)
    path.unlink()
    with pytest.raises(UserError, match=re.escape(f"{path.name} is missing")):
        open_origin(source)


def test_a_tfrecord_with_whole_records_missing(make_source):
    root, source = make_source("tfds_tfrecord")
    path = sorted(root.glob("miniature/*/miniature-train*"))[0]
    length = int.from_bytes(path.read_bytes()[:8], "little")
    shorten(path, 12 + length + 4)
    with pytest.raises(UserError, match="holds 1 records, but its set says"):
        open_origin(source)


def test_a_damaged_example_is_named(make_source):
    root, source = make_source("tfds_tfrecord")
    path = sorted(root.glob("miniature/*/miniature-train*"))[0]
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    data[12 : 12 + length] = b"\xff" * length
    path.write_bytes(data)
    records = open_origin(source).splits["train"]
    with pytest.raises(UserError, match=re.escape(f"{path.name}__0 can't be read")):
        list(records.read([0]))
    assert len(list(records.read(range(1, len(records))))) == len(records) - 1


def test_a_set_that_cannot_be_downloaded(monkeypatch):
    class Unreachable:
        def is_prepared(self):
            return False

        def download_and_prepare(self):
            raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(tfds, "builder", lambda name, data_dir: Unreachable())
    with pytest.raises(UserError, match=r"can't provide 'cifar10' \(no route to host\): "):
        open_origin("tfds:cifar10")


def least():
    """As few images as tensorflow-datasets can store."""
    return {split: {FISH: {f"{split}.JPEG": jpeg(8, 8, 0)}} for split in ("train", "val")}


@pytest.mark.parametrize("supervised", [("image", "label"), None])
def test_a_set_without_file_names(supervised, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    features = {"image": kinds.Image(), "label": kinds.ClassLabel(names=[FISH])}
    source = layouts.tfds_set(tmp_path, least(), "tfrecord", features, supervised)
    record = next(open_origin(source).splits["train"].read([0]))
    data = least()["train"][FISH]["train.JPEG"]
    assert record == ("miniature-train.tfrecord-00000-of-00001__0", 0, data)


NOT_FOR_CLASSIFICATION = {
    "no image": {"file_name": kinds.Text()},
    "two images": {"image": kinds.Image(), "mask": kinds.Image()},
    "16 bits": {"image": kinds.Image(dtype=np.uint16, encoding_format="png")},
    "no class": {"image": kinds.Image(), "label": kinds.Scalar(np.int64)},
}


@pytest.mark.parametrize("case", NOT_FOR_CLASSIFICATION)
def test_a_set_of_something_else(case, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    features = {"label": kinds.ClassLabel(names=[FISH])} | NOT_FOR_CLASSIFICATION[case]
    source = layouts.tfds_set(tmp_path, least(), "tfrecord", features, None)
    with pytest.raises(UserError, match="no set for image classification"):
        open_origin(source)


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
def test_damaged_parquet(name, make_source):
    change, message = PARQUET_DAMAGE[name]
    damaged(change, make_source, "parquet", message)


def test_parquet_names_are_unique_even_where_its_paths_are_not(make_source):
    root, source = make_source("parquet")

    def same_path(table):
        rows = [{"bytes": row["bytes"], "path": "image.jpg"} for row in table["image"].to_pylist()]
        return replace(table, "image", pa.array(rows, table.schema.field("image").type))

    rewrite_table(root / FIRST, same_path)
    records = open_origin(source).splits["train"]
    names = [record.name for record in records.read(range(len(records)))]
    assert names[:2] == [f"{pathlib.Path(FIRST).name}__{row}" for row in (0, 1)]
    assert len(set(names)) == len(names)


def test_parquet_that_holds_paths_alone(make_source):
    root, source = make_source("parquet")

    def without_bytes(table):
        rows = [{"bytes": None, "path": row["path"]} for row in table["image"].to_pylist()]
        return replace(table, "image", pa.array(rows, table.schema.field("image").type))

    rewrite_table(root / FIRST, without_bytes)
    with pytest.raises(UserError, match="only a path"):
        list(open_origin(source).splits["train"].read([0]))
