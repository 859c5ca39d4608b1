"""Every usual form of a data set, in its true layout, gives each image with its name and label."""

import pickle
import shutil

import numpy as np
import pytest

from alexnet_jax.data.origins import open_origin
from alexnet_jax.errors import UserError
from tests import layouts
from tests.layouts import CLASSES, file_of


def test_every_image_comes_once_with_its_name_label_and_bytes(source, data):
    origin = open_origin(source)
    named = tuple(layouts.WORDS[c] for c in CLASSES) if "parquet" in source else CLASSES
    assert origin.classes == named
    for split, classes in data.items():
        records = list(origin.splits[split].read(range(len(origin.splits[split]))))
        assert len({record.name for record in records}) == len(records)
        ours = {file_of(r.name): (CLASSES[r.label], r.data) for r in records}
        theirs = {file: (name, content) for file, name, content in layouts.flat(classes)}
        assert ours == theirs


def test_records_come_in_any_order_in_other_processes_too(source):
    split = pickle.loads(pickle.dumps(open_origin(source).splits["train"]))
    whole = list(split.read(range(len(split))))
    order = np.random.default_rng(0).permutation(len(split))
    assert list(split.read(order)) == [whole[i] for i in order]
    assert split.fingerprint == open_origin(source).splits["train"].fingerprint


def test_blocks_are_runs_of_records(source):
    split = open_origin(source).splits["train"]
    if "parquet" in source:
        assert split.blocks.tolist() == [0, 3, 6, 9, 12, 15]  # two files of nine rows by threes
    else:
        assert split.blocks is None


def test_validation_images_keep_the_order_of_their_file_names(tmp_path, data):
    for make in (layouts.kaggle, layouts.imagenet_tars):
        root = tmp_path / make.__name__
        root.mkdir()
        split = open_origin(make(root, data)).splits["val"]
        names = [record.name for record in split.read(range(len(split)))]
        assert names == sorted(names)


def test_what_ilsvrc_calls_its_classes(tmp_path, data):
    facts = open_origin(layouts.imagenet_tars(tmp_path, data)).facts
    assert facts["ilsvrc_ids"] == [3, 1, 2]
    assert facts["class_words"] == [layouts.WORDS[c] for c in CLASSES]


def test_kaggles_folder_is_found_from_inside_and_has_a_test_split(tmp_path, data):
    layouts.kaggle(tmp_path, data)
    for inside in ("", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"):
        origin = open_origin(f"folder:{tmp_path / inside}")
        assert origin.facts["class_words"] == [layouts.WORDS[c] for c in CLASSES]
        ((_, label, _),) = origin.splits["test"].read([0])
        assert label == -1


def test_the_validation_split_can_be_named(tmp_path, data):
    layouts.folder(tmp_path, {"train": data["train"], "held": data["val"]})
    assert len(open_origin(f"folder:{tmp_path}", "held").splits["val"]) == 6
    with pytest.raises(UserError, match="no split to validate on.*--validation=NAME"):
        open_origin(f"folder:{tmp_path}")


def cut_off(path, share=0.6):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize(
    ("layout", "damage", "sentence"),
    [
        ("folder", lambda root: shutil.rmtree(root / "train"), "no folder 'train'"),
        ("folder", lambda root: shutil.rmtree(root / "train/n01440764"), "has a class 'n01440764'"),
        (
            "kaggle",
            lambda root: next((root / "ILSVRC/Data/CLS-LOC/val").iterdir()).unlink(),
            "stands in one of them alone",
        ),
        ("imagenet_tars", lambda root: cut_off(root / "ILSVRC2012_img_train.tar"), "not a whole"),
        ("imagenet_tars", lambda root: cut_off(root / "ILSVRC2012_img_val.tar"), "not a whole"),
        (
            "imagenet_tars",
            lambda root: (root / "ILSVRC2012_devkit_t12.tar.gz").unlink(),
            "devkit_t12.tar.gz is missing",
        ),
        (
            "imagenet_tars",
            lambda root: cut_off(root / "ILSVRC2012_devkit_t12.tar.gz"),
            "not the development kit",
        ),
        (
            "imagenet_tars",
            lambda root: (root / "ILSVRC2012_img_val.tar").write_bytes(
                layouts.tar_of([("a.JPEG", b"1")])
            ),
            "has 1 images, and .* knows the labels of 6",
        ),
        (
            "imagenet_tars",
            lambda root: (root / "ILSVRC2012_img_train.tar").write_bytes(
                layouts.tar_of([("cats.tar", layouts.tar_of([]))])
            ),
            "cats.tar, which is no class",
        ),
        (
            "parquet",
            lambda root: cut_off(root / "data/train-00000-of-00002.parquet"),
            "not a whole parquet file",
        ),
        (
            "parquet",
            lambda root: [p.unlink() for p in root.rglob("train*")],
            "no parquet files of a split 'train'",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, data, layout, damage, sentence):
    source = layouts.ALL[layout](tmp_path, data)
    damage(tmp_path)
    with pytest.raises(UserError, match=sentence):
        open_origin(source)


def test_sources_that_are_none():
    for source, sentence in (
        ("folder", "expected KIND:WHERE"),
        ("zip:there", "expected folder, imagenet_tars, tfds or parquet"),
        ("folder:/not/there", "is not a folder"),
        ("tfds:no_such_set", "can't give 'no_such_set'"),
    ):
        with pytest.raises(UserError, match=sentence):
            open_origin(source)


def test_a_set_of_tensorflow_datasets_without_labels_is_refused(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    class Unlabelled(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict({"image": tfds.features.Image()})
            )

        def _split_generators(self, _):
            return {"train": iter([("0", {"image": np.zeros((4, 4, 3), np.uint8)})])}

        def _generate_examples(self):
            raise NotImplementedError

    Unlabelled(data_dir=str(tmp_path)).download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"one ClassLabel among its features, and found image \(Im"):
        open_origin("tfds:unlabelled")
