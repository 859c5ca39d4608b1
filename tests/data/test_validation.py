"""Labels out of range, wrong sizes and wrong types are refused before they enter a step."""

import types

import numpy as np
import pytest

from alexnet_jax.data import prepared, statistics, stream, tf_example
from alexnet_jax.data.images import BadImage
from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import loop
from alexnet_jax.training.evaluation import Evaluator
from tests.support import layouts, miniature
from tests.support.layouts import small_set
from tests.support.preparing import SIZE, open_folder

BATCH, SIDE, CHANNELS, RECORDS = 4, 6, 3, 8


class Some:
    """A source whose images and labels are as a test wants them; `unreadable` are its bad ones."""

    classes, fingerprint = ("a", "b", "c"), "some"
    size, channels = SIDE, CHANNELS

    def __init__(self, labels=None, change=lambda images, labels: (images, labels), unreadable=()):
        self.labels = np.arange(RECORDS, dtype=np.int32) % 3 if labels is None else labels
        self.change, self.unreadable = change, unreadable

    def __len__(self):
        return RECORDS

    def name(self, record):
        return f"image{record}.jpg"

    def load(self, ids, out=None):
        if np.isin(ids, self.unreadable).any():
            raise BadImage("unreadable")
        images = np.full((len(ids), SIDE, SIDE, CHANNELS), 7, np.uint8)
        return self.change(images, self.labels[np.asarray(ids)])


def labelled(*changed, kind=np.int32):
    labels = np.arange(RECORDS, dtype=kind) % 3
    labels[5] = changed[0] if changed else labels[5]
    return labels


WRONG = {
    "a label above the classes": (Some(labelled(3)), "image5.jpg has the label 3, but the set"),
    "a label below them": (Some(labelled(-3)), "image5.jpg has the label -3, but the set"),
    "the label of padding": (Some(labelled(-1)), "image5.jpg has the label -1, but the set"),
    "labels of 64 bits": (Some(labelled(kind=np.int64)), r"labels of int64 \[4\]"),
    "labels that are no whole numbers": (Some(labelled(kind=np.float32)), "labels of float32"),
    "too few labels": (Some(change=lambda i, n: (i, n[1:])), r"labels of int32 \[3\]"),
    "labels in a column": (Some(change=lambda i, n: (i, n[:, None])), r"int32 \[4, 1\]"),
    "images of floats": (
        Some(change=lambda i, n: (i.astype(np.float32), n)), "images of float32"),
    "images of bytes with a sign": (Some(change=lambda i, n: (i.astype(np.int8), n)), "of int8"),
    "images of another size": (
        Some(change=lambda i, n: (i[:, 1:], n)), r"uint8 \[4, 5, 6, 3\], where a step takes uint8"),
    "images that could be spread": (Some(change=lambda i, n: (i[:, :1, :1], n)), r"\[4, 1, 1, 3\]"),
    "images of one channel": (Some(change=lambda i, n: (i[..., :1], n)), r"uint8 \[4, 6, 6, 1\]"),
    "too few images": (Some(change=lambda i, n: (i[1:], n)), r"uint8 \[3, 6, 6, 3\]"),
}  # fmt: skip


def streams(source, go_on=False):
    batches = {"batch_size": BATCH, "indices": np.arange(BATCH), "num_workers": 1, "prefetch": 1}
    yield stream.training_batches(
        source, seed=0, first_step=0, last_step=2, replace_bad=go_on, **batches
    )
    yield stream.evaluation_batches(source, count_bad_as_wrong=go_on, **batches)
    yield stream.load_records(
        source, np.arange(RECORDS), num_workers=1, skip_bad=go_on, chunk_size=BATCH
    )


@pytest.mark.parametrize("name", WRONG)
def test_no_stream_lets_it_through(name):
    source, message = WRONG[name]
    for batches in streams(source):
        with pytest.raises(UserError, match=message) as caught:
            list(batches)
        assert not isinstance(caught.value, BadImage), "it would be replaced instead of reported"


def test_an_image_that_cannot_be_read_hides_no_wrong_label():
    for batches in streams(Some(labelled(9), unreadable=[5]), go_on=True):
        with pytest.raises(UserError, match="image5.jpg has the label 9"):
            list(batches)


def test_what_is_right_comes_through_even_from_a_source_with_memory_of_its_own():
    for batches in streams(Some(unreadable=[5]), go_on=True):
        loaded = list(batches)
        dtypes = {(batch.images.dtype, batch.labels.dtype) for batch in loaded}
        assert dtypes == {(np.dtype(np.uint8), np.dtype(np.int32))}
        seen = np.concatenate([batch.images[batch.labels >= 0] for batch in loaded])
        assert len(seen) >= RECORDS - 1
        assert (seen == 7).all()


def never(*_):
    raise AssertionError("the step was reached")


def reach(source, mesh):
    """Ask for training batches as the loop does, then evaluate."""
    plan = types.SimpleNamespace(
        seed=0, batch_size=8, num_steps=10, num_workers=1, prefetch=1, replace_bad_images=True
    )
    run = types.SimpleNamespace(training=source, mesh=mesh, plan=plan)
    yield lambda: list(loop.device_batches(run, 0))
    evaluator = Evaluator(
        step=never, preprocessing=None, source=source, batch_size=8, mesh=mesh, num_workers=1,
        prefetch=1, warn=print, count_bad_as_wrong=True,
    )  # fmt: skip
    yield lambda: evaluator.measure({})


@pytest.mark.parametrize("form", ["jpeg", "raw"])
def test_a_label_that_goes_wrong_after_the_opening_reaches_no_step(form, prepared_sets):
    source = prepared.Prepared(prepared_sets / form, "train", SIZE, 3)
    source.labels[3] = 77
    for attempt in reach(source, miniature.make_mesh(1, 1)):
        with pytest.raises(UserError, match="(the label|but) 77"):
            attempt()


FORGED_LABELS = {
    "above the classes": (lambda labels: np.where(labels == 2, 3, labels), "the label 3, but"),
    "none": (lambda labels: labels - 1, "the label -1, but the classes of the set are 0 to 2"),
    "of 64 bits": (lambda labels: labels.astype(np.int64), "holds int64"),
    "floats": (lambda labels: labels.astype(np.float64), "holds float64"),
    "too few": (lambda labels: labels[1:], r"int32 \[13\], where int32 \[14\]"),
}


@pytest.mark.parametrize("name", FORGED_LABELS)
def test_a_prepared_set_with_a_forged_labels_file_is_not_opened(name, prepared_set):
    folder = prepared_set("raw")
    change, message = FORGED_LABELS[name]
    path = prepared.labels_file(folder, "train")
    np.save(path, change(np.load(path)))
    with pytest.raises(UserError, match=f"train.labels.npy.*{message}.*: prepare the set anew"):
        open_folder(folder, SIZE)


@pytest.mark.parametrize("label", [1, 77, -1])
def test_a_record_whose_label_is_not_that_of_the_labels_file_stops_all(label, prepared_set):
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    folder = prepared_set("jpeg")
    path = prepared.shard_file(folder, "mini", "train", 0, 1)
    reader = ArrayRecordReader(path)
    records = [tf_example.parse(record) for record in reader.read_all()]
    place = next(place for place, (_, stored) in enumerate(records) if stored != 1)
    records[place] = (records[place][0], label)
    writer = ArrayRecordWriter(path, "group_size:1,uncompressed")
    for image, stored in records:
        writer.write(tf_example.serialize(image, stored, "name"))
    writer.close()
    source = prepared.Prepared(folder, "train", SIZE, 3)
    for attempt in reach(source, miniature.make_mesh(1, 1)):
        with pytest.raises(UserError, match=f"has the label {label} in its record, but [02] in"):
            attempt()


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda pixels: pixels / 255, "holds float64"), (lambda pixels: pixels[:, :1, :1], r"1, 1, 3"),
     (lambda pixels: pixels[..., :1], r"64, 64, 1\]"), (lambda pixels: pixels[1:], r"uint8 \[13, "),
     (lambda pixels: pixels.astype(np.int8), "int8")],
)  # fmt: skip
def test_a_prepared_set_with_other_pixels_is_not_opened(change, message, prepared_set):
    folder = prepared_set("raw")
    path = prepared.pixels_file(folder, "train", 0, 1)
    np.save(path, change(np.load(path)))
    with pytest.raises(UserError, match=f"{message}.*where uint8 .* was expected: prepare the set"):
        prepared.Prepared(folder, "train", SIZE, 3)


def test_names_that_are_not_one_an_image_are_refused(prepared_set):
    path = prepared.names_file(prepared_set("raw"), "train")
    path.write_text(path.read_text() + "one more\n")
    source = prepared.Prepared(path.parent, "train", SIZE, 3)
    with pytest.raises(UserError, match="train.names.txt has 15 names for 14 images"):
        source.name(0)


@pytest.mark.parametrize("kind", ["tfds_tfrecord", "parquet"])
@pytest.mark.parametrize("label", [3, -2, 2**32])
def test_a_label_out_of_range_is_not_prepared(kind, label, tmp_path, monkeypatch):
    """2**32 would be 0 in 32 bits."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    real = layouts.labelled

    def forged(images, split):
        for place, (file, data, correct) in enumerate(real(images, split)):
            yield file, data, label if place == 1 else correct

    monkeypatch.setattr(layouts, "labelled", forged)
    if kind != "parquet":  # its writer looks at labels too
        from tensorflow_datasets import features

        monkeypatch.setattr(features.ClassLabel, "encode_example", lambda self, value: value)
    source = layouts.LAYOUTS[kind](tmp_path, small_set())
    with pytest.raises(UserError, match=f"label {label}"):
        list(open_origin(source).splits["train"].read(range(16)))


STATISTICS_DAMAGE = {
    "of another size": (lambda s: s | {"mean_image": s["mean_image"][1:, 1:]}, r"\[63, 63, 3\]"),
    "of one channel": (lambda s: s | {"mean_image": s["mean_image"][..., :1]}, "no statistics"),
    "not finite": (lambda s: s | {"mean_image": s["mean_image"] * np.nan}, "no statistics"),
    "of whole numbers": (
        lambda s: s | {"mean_image": s["mean_image"].astype(np.int64)}, "no statistics"),
    "without colours": (lambda s: {"mean_image": s["mean_image"]}, "no statistics"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATISTICS_DAMAGE)
def test_statistics_that_are_none_of_these_images_are_refused(name, prepared_set):
    path = prepared_set("raw") / prepared.STATISTICS
    change, message = STATISTICS_DAMAGE[name]
    with np.load(path) as stored:
        np.savez(path, **change(dict(stored)))
    with pytest.raises(UserError, match=f"statistics.npz .*{message}.*: take it away"):
        statistics.Statistics.load_for(path, SIZE, 3)
