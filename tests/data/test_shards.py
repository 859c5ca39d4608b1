"""What goes into the shards of a prepared set, how, and in which order."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data import images, prepare, shards, sources
from alexnet_jax.data.origins import open_origin
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from tests.support import layouts
from tests.support.layouts import FISH
from tests.support.odd_images import encoded, jpeg, picture
from tests.support.preparing import SIZE, make, settings


def as_jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return np.asarray(Image.open(buffer))


def test_what_has_the_size_already_is_kept_byte_for_byte(tmp_path):
    stored_jpeg, png = jpeg(80, 80, 1), encoded(picture(80, 80, 2), "PNG")
    grey = jpeg(80, 80, 3, mode="L")
    files = {"a": {"1.jpg": stored_jpeg, "2.png": png}, "b": {"3.jpg": grey}}
    source = layouts.folder(tmp_path, {"train": files, "val": files})
    _, splits = make(source, tmp_path / "set", size=80)
    stored = [splits["val"].encoded(record) for record in range(3)]
    assert stored[:2] == [stored_jpeg, png]
    pixels, _ = splits["val"].load(range(3))
    np.testing.assert_array_equal(pixels[1], np.asarray(picture(80, 80, 2)))
    assert np.ptp(pixels[2].astype(int), axis=2).max() <= 1, "grey becomes three equal channels"


def test_the_training_order_is_shuffled_once_by_the_seed(tmp_path):
    pixels = np.zeros((1, 1, 3), np.uint8)
    files = {f"{i:04d}.png": encoded(Image.fromarray(pixels + i % 200), "PNG")
             for i in range(600)}  # fmt: skip
    source = layouts.folder(tmp_path, {"train": {"a": files}, "val": {"a": files}})
    orders, prints = [], []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        _, splits = make(source, tmp_path / name, size=1, seed=seed)
        orders.append([pathlib.PurePath(splits["train"].name(i)).name for i in range(600)])
        prints.append(splits["train"].fingerprint)
        assert [pathlib.PurePath(splits["val"].name(i)).name for i in range(600)] == sorted(files)
    assert orders[0] == orders[1] != orders[2]
    assert prints[0] == prints[1] != prints[2]
    assert sorted(orders[0]) == sorted(files) != orders[0]


@pytest.mark.parametrize(("records", "blocks"), [(1, None), (1000, None), (20_000, 100), (900, 7)])
def test_shards_divide_a_split(records, blocks):
    class Counted:
        def __len__(self):
            return records

    split = Counted()
    split.blocks = None if blocks is None else np.arange(0, records, blocks)
    for name in ("train", "val"):
        divided = shards.divide_split(name, split, 0)
        ids = np.concatenate([shard.ids for shard in divided])
        np.testing.assert_array_equal(np.sort(ids), np.arange(records))
        assert (name == "train" and records > 1) == (ids.tolist() != list(range(records)))
        assert max(len(shard.ids) for shard in divided) <= shards.MAX_IMAGES + (blocks or 1)
        if blocks and name == "train":  # few blocks at a time have to be held in memory
            window = ids[: len(divided[0].ids)][: shards.MAX_SHUFFLED]
            assert len(np.unique(window // blocks)) <= shards.MAX_SHUFFLED // blocks + 1


def test_jpeg_sets_hold_what_pillow_encodes_and_decodes(tmp_path, data):
    source = layouts.folder(tmp_path, data)
    folder = sources.Folder(tmp_path, "val", SIZE, 3)
    _, splits = make(source, tmp_path / "set")
    pixels, _ = splits["val"].load(range(len(folder)))
    for ours, theirs in zip(pixels, folder.load(range(len(folder)))[0], strict=True):
        np.testing.assert_array_equal(ours, as_jpeg(theirs))


def test_grey_and_warped_sets(tmp_path, data):
    source = layouts.folder(tmp_path, data)
    content = data["val"][FISH]["ILSVRC2012_val_00000002.JPEG"]
    _, splits = make(source, tmp_path / "grey", channels=1, format="raw")
    assert splits["val"].load([0])[0].shape == (1, SIZE, SIZE, 1)
    grey = images.decode(content, "it", SIZE, 1)
    np.testing.assert_array_equal(splits["val"].load([0])[0][0], grey)
    _, splits = make(source, tmp_path / "warp", resize="warp", format="raw")
    np.testing.assert_array_equal(
        splits["val"].load([0])[0][0], images.decode(content, "it", SIZE, 3, True)
    )


def test_images_without_a_label_are_no_validation_set(tmp_path, data):
    origin = open_origin(layouts.parquet(tmp_path, data), "test")
    quiet = Terminal(speaks=False)
    with pytest.raises(UserError, match="of the split val has no label: name a split"):
        prepare.prepare_dataset(origin, settings(), tmp_path / "set", num_workers=1, terminal=quiet)
