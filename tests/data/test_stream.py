"""The stream is a function of (seed, step): complete, disjoint, resumable, honest about errors."""

import threading

import numpy as np
import pytest

from alexnet_jax.data import stream
from alexnet_jax.data.images import BadImage
from alexnet_jax.runtime.errors import UserError


class Numbers:
    """A source whose image i is filled with i."""

    classes = ("even", "odd")
    fingerprint = "numbers"
    size, channels = 2, 1

    def __init__(self, records, broken=()):
        self.labels = (np.arange(records) % 2).astype(np.int32)
        self.broken = broken

    def __len__(self):
        return len(self.labels)

    def load(self, ids, out=None):
        ids = np.asarray(ids, np.int64)
        for broken in self.broken:
            if broken in ids:
                raise BadImage(f"image {broken} is broken")
        images = np.empty((len(ids), 2, 2, 1), np.uint8) if out is None else out
        images[:] = ids[:, None, None, None]
        return images, self.labels[ids]


@pytest.fixture(autouse=True, params=["tf.data", "without TensorFlow"])
def reader(request, monkeypatch):
    if request.param == "without TensorFlow":
        monkeypatch.setattr(stream, "_tensorflow", lambda: None)


def record_ids(records, seed, step, batch, indices):
    return stream.record_ids(records, seed=seed, step=step, batch_size=batch, indices=indices)


def ids_of(records, seed, steps, batch):
    return [record_ids(records, seed, step, batch, np.arange(batch)) for step in steps]


@pytest.mark.parametrize(("records", "batch"), [(100, 10), (103, 16), (5, 16), (64, 64)])
def test_each_epoch_visits_each_record_once(records, batch):
    epochs = 6
    steps = -(-epochs * records // batch)
    order = np.concatenate(ids_of(records, 7, range(steps), batch))[: epochs * records]
    for epoch in order.reshape(epochs, records):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(records))


def test_order_differs_between_epochs_and_seeds_and_repeats_for_a_seed():
    first = ids_of(100, 0, range(10), 10)
    again = ids_of(100, 0, range(10), 10)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, ids_of(100, 0, range(10, 20), 10))
    assert not np.array_equal(first, ids_of(100, 1, range(10), 10))


def test_processes_see_disjoint_examples_whose_union_is_the_batch():
    whole = ids_of(103, 3, [4], 12)[0]
    parts = [record_ids(103, 3, 4, 12, indices) for indices in np.split(np.arange(12), 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("first", [0, 1, 13, 26])
def test_ids_are_the_same_for_any_number_of_processes_and_after_any_resume(processes, first):
    whole = np.concatenate(ids_of(103, 3, range(27), 12))
    merged = np.concatenate(
        [
            np.concatenate([record_ids(103, 3, step, 12, indices) for indices in parts])
            for parts in [np.split(np.arange(12), processes)]
            for step in range(first, 27)
        ]
    )
    np.testing.assert_array_equal(merged, whole[first * 12 :])


def batches(first, last, indices, records=103, broken=(), replace_bad=False):
    source = Numbers(records, broken)
    return list(
        stream.training_batches(
            source,
            seed=5,
            batch_size=12,
            indices=indices,
            first_step=first,
            last_step=last,
            num_workers=2,
            prefetch=2,
            replace_bad=replace_bad,
        )
    )


def test_three_epochs_load_every_record_three_times():
    seen = [images[:, 0, 0, 0] for images, _, _ in batches(0, 27, np.arange(12), records=108)]
    np.testing.assert_array_equal(np.bincount(np.concatenate(seen), minlength=108), 3)


def test_batches_hold_the_records_of_their_step_wherever_they_start():
    indices = np.arange(4, 8)
    whole = batches(0, 30, indices)
    for step, (images, labels, bad) in enumerate(whole):
        ids = record_ids(103, 5, step, 12, indices)
        np.testing.assert_array_equal(images[:, 0, 0, 0], ids)
        np.testing.assert_array_equal(labels, ids % 2)
        assert (images.dtype, labels.dtype, len(bad)) == (np.uint8, np.int32, 0)
    resumed = batches(17, 30, indices)
    for before, after in zip(whole[17:], resumed, strict=True):
        np.testing.assert_array_equal(before.images, after.images)
        np.testing.assert_array_equal(before.labels, after.labels)


@pytest.mark.parametrize(("records", "batch", "processes"), [(103, 8, 2), (16, 8, 1), (3, 8, 4)])
def test_evaluation_sees_each_record_once_and_pads_with_no_label(records, batch, processes):
    seen, counts = [], set()
    for indices in np.split(np.arange(batch), processes):
        parts = list(
            stream.evaluation_batches(
                Numbers(records), batch_size=batch, indices=indices, num_workers=2, prefetch=2
            )
        )
        counts.add(len(parts))
        for images, labels, _ in parts:
            assert len(images) == len(labels) == len(indices)
            real = labels != stream.PADDING_LABEL
            assert not images[~real].any()
            seen += images[real][:, 0, 0, 0].tolist()
    assert sorted(seen) == list(range(records))
    assert counts == {-(-records // batch)}, "processes must take equally many steps"


def test_no_more_is_read_ahead_than_asked_for(monkeypatch):
    """`num_workers` batches are decoded, `prefetch` wait, and tf.data holds some itself."""
    read, source = [], Numbers(1200)
    load = source.load
    monkeypatch.setattr(source, "load", lambda ids, out=None: read.append(1) or load(ids, out))
    stepping = stream.training_batches(
        source,
        seed=5,
        batch_size=12,
        indices=np.arange(12),
        first_step=0,
        last_step=100,
        num_workers=2,
        prefetch=3,
    )
    for _ in range(10):
        next(stepping)
    stepping.close()
    assert 10 <= len(read) <= 10 + 2 + 3 + 3


def test_loaded_records_come_in_order():
    ids = np.arange(1, 200, 3)
    loaded = stream.load_records(Numbers(200), ids, num_workers=2, chunk_size=16)
    chunks = [images[:, 0, 0, 0] for images, _, _ in loaded]
    np.testing.assert_array_equal(np.concatenate(chunks), ids)


def test_an_error_of_the_source_arrives_as_it_was():
    with pytest.raises(UserError, match="image 9 is broken"):
        batches(0, 30, np.arange(12), broken=[9])


def test_of_several_errors_the_first_in_order_arrives():
    source = Numbers(24)
    late = threading.Event()

    def load(ids, out=None):
        if 23 in ids:
            late.set()
            raise UserError("the second batch is broken")
        assert late.wait(60)
        raise UserError("the first batch is broken")

    source.load = load
    with pytest.raises(UserError, match="the first batch is broken"):
        list(stream.load_records(source, np.arange(24), num_workers=2, chunk_size=12))


def test_an_unreadable_image_is_replaced_by_a_later_one_of_its_epoch():
    broken = [9, 40, 41]
    whole = batches(0, 30, np.arange(12), broken=broken, replace_bad=True)
    order = np.concatenate(ids_of(103, 5, range(35), 12))[: 4 * 103]
    seen = np.concatenate([images[:, 0, 0, 0] for images, _, _ in whole])
    labels = np.concatenate([labels for _, labels, _ in whole])
    np.testing.assert_array_equal(labels, seen % 2)
    wrong = np.flatnonzero(np.isin(order[: len(seen)], broken))
    np.testing.assert_array_equal(np.flatnonzero(seen != order[: len(seen)]), wrong)
    assert len(wrong) >= 3 * 3  # three epochs and a part
    for position in wrong:
        end = (position // 103 + 1) * 103
        assert seen[position] not in broken
        assert seen[position] in order[position + 1 : end] or position == end - 1
    pairs = np.concatenate([bad for _, _, bad in whole])
    np.testing.assert_array_equal(pairs, np.stack([order[wrong], seen[wrong]], axis=1))


def test_a_replacement_does_not_depend_on_processes_or_a_resume():
    whole = batches(0, 30, np.arange(12), broken=[9, 40], replace_bad=True)
    part = batches(11, 30, np.arange(4, 8), broken=[9, 40], replace_bad=True)
    for before, after in zip(whole[11:], part, strict=True):
        np.testing.assert_array_equal(before.images[4:8], after.images)


@pytest.mark.parametrize("place", [0, 50, 101, 102])
def test_candidates_come_later_or_for_the_last_image_earlier(place):
    order = np.concatenate(ids_of(103, 5, range(1), 103))
    candidates = set(stream.replacements(103, 5, place))
    assert candidates <= set(order[place + 1 :] if place < 102 else order[:102])
    assert len(candidates) > (40 if place in (0, 102) else 0)


def test_a_set_of_unreadable_images_stops_the_run():
    with pytest.raises(UserError, match="100 images of the training set in a row"):
        batches(0, 1, np.arange(12), broken=range(103), replace_bad=True)


def test_an_unreadable_image_counts_as_wrong_or_stops_the_evaluation():
    source = Numbers(20, broken=[7, 18])
    options = {"batch_size": 8, "indices": np.arange(8), "num_workers": 2, "prefetch": 2}
    with pytest.raises(UserError, match="image 7 is broken"):
        list(stream.evaluation_batches(source, **options))
    parts = list(stream.evaluation_batches(source, **options, count_bad_as_wrong=True))
    labels = np.concatenate([labels for _, labels, _ in parts])
    expected = np.arange(20) % 2
    expected[[7, 18]] = [-3, -2]  # -2 minus the label
    np.testing.assert_array_equal(labels, [*expected, -1, -1, -1, -1])
    assert np.concatenate([bad for _, _, bad in parts]).tolist() == [[7, -1], [18, -1]]
    assert not parts[0].images[7].any()


def test_unreadable_images_are_left_out_of_a_pass_on_request():
    source = Numbers(40, broken=[5])
    loaded = list(
        stream.load_records(source, np.arange(40), num_workers=2, skip_bad=True, chunk_size=16)
    )
    seen = np.concatenate([images[:, 0, 0, 0] for images, _, _ in loaded])
    assert seen.tolist() == [i for i in range(40) if i != 5]
