"""The stream is a function of (seed, step): complete, disjoint, resumable, honest about errors."""

import numpy as np
import pytest

from alexnet_jax.data import stream
from alexnet_jax.errors import UserError


class Numbers:
    """A source whose image i is filled with i."""

    classes = ("even", "odd")
    fingerprint = "numbers"

    def __init__(self, records, broken=None):
        self.records, self.broken = records, broken

    def __len__(self):
        return self.records

    def load(self, ids):
        ids = np.asarray(ids, np.int64)
        if self.broken in ids:
            raise UserError(f"image {self.broken} is broken")
        images = np.broadcast_to(ids[:, None, None, None], (len(ids), 2, 2, 1))
        return images.astype(np.uint8), (ids % 2).astype(np.int32)


def ids_of(records, seed, steps, batch):
    rows = np.arange(batch)
    return [stream.record_ids(records, seed, step, batch, rows) for step in steps]


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


def test_processes_see_disjoint_rows_whose_union_is_the_batch():
    whole = ids_of(103, 3, [4], 12)[0]
    parts = [stream.record_ids(103, 3, 4, 12, rows) for rows in np.split(np.arange(12), 3)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def batches(first, last, rows, records=103, **source):
    return list(stream.training_batches(Numbers(records, **source), 5, 12, rows, first, last, 2, 2))


def test_batches_hold_the_records_of_their_step_wherever_they_start():
    rows = np.arange(4, 8)
    whole = batches(0, 30, rows)
    for step, (images, labels) in enumerate(whole):
        ids = stream.record_ids(103, 5, step, 12, rows)
        np.testing.assert_array_equal(images[:, 0, 0, 0], ids)
        np.testing.assert_array_equal(labels, ids % 2)
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    resumed = batches(17, 30, rows)
    for (images, labels), (later, later_labels) in zip(whole[17:], resumed, strict=True):
        np.testing.assert_array_equal(images, later)
        np.testing.assert_array_equal(labels, later_labels)


@pytest.mark.parametrize(("records", "batch", "processes"), [(103, 8, 2), (16, 8, 1), (3, 8, 4)])
def test_evaluation_sees_each_record_once_and_pads_with_no_label(records, batch, processes):
    seen, counts = [], set()
    for rows in np.split(np.arange(batch), processes):
        parts = list(stream.evaluation_batches(Numbers(records), batch, rows, 2, 2))
        counts.add(len(parts))
        for images, labels in parts:
            assert len(images) == len(labels) == len(rows)
            real = labels != stream.PADDING_LABEL
            assert not images[~real].any()
            seen += images[real][:, 0, 0, 0].tolist()
    assert sorted(seen) == list(range(records))
    assert counts == {-(-records // batch)}, "processes must take equally many steps"


def test_all_records_come_in_order():
    ids = np.arange(1, 200, 3)
    chunks = [images[:, 0, 0, 0] for images, _ in stream.all_records(Numbers(200), ids, 2, 16)]
    np.testing.assert_array_equal(np.concatenate(chunks), ids)


def test_an_error_of_the_source_arrives_as_it_was():
    with pytest.raises(UserError, match="image 9 is broken"):
        batches(0, 30, np.arange(12), broken=9)
