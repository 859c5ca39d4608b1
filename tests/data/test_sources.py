"""Images, sources and statistics, against Pillow, NumPy and scikit-learn."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from alexnet_jax.data import images, sources, statistics
from alexnet_jax.runtime.errors import UserError
from tests.support.preparing import open_folder, open_splits


@pytest.fixture
def random():
    return np.random.default_rng(0)


def encoded(pixels, kind="PNG", mode=None):
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, kind, quality=95)
    return buffer.getvalue()


def test_an_image_of_the_stored_size_is_untouched(random):
    pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(images.decode(encoded(pixels), "it", 32, 3), pixels)


@pytest.mark.parametrize("shape", [(64, 96), (96, 64)])
def test_shrinking_averages_areas_and_cuts_out_the_center(random, shape):
    pixels = random.integers(0, 256, (*shape, 3), np.uint8)
    small = images.decode(encoded(pixels), "it", 16, 3)
    blocks = pixels.reshape(shape[0] // 4, 4, shape[1] // 4, 4, 3).mean(axis=(1, 3))
    top, left = (blocks.shape[0] - 16) // 2, (blocks.shape[1] - 16) // 2
    center = blocks[top : top + 16, left : left + 16]
    # Pillow rounds to whole levels twice, after the rows and after the columns.
    assert np.abs(small - center).max() <= 1.0


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (257, 1000), (100, 80)])
def test_any_shape_gives_the_stored_size(random, width, height):
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    assert images.decode(encoded(pixels), "it", 256, 3).shape == (256, 256, 3)


def test_unusual_files_become_rgb(random):
    grey = random.integers(0, 256, (20, 20), np.uint8)
    rgb = images.decode(encoded(grey), "it", 20, 3)
    np.testing.assert_array_equal(rgb, np.repeat(grey[:, :, None], 3, axis=2))
    assert images.decode(encoded(grey), "it", 20, 1).shape == (20, 20, 1)
    buffer = io.BytesIO()
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(buffer, "JPEG")
    red = images.decode(buffer.getvalue(), "it", 20, 3)
    assert red[..., 0].min() > 200
    assert red[..., 1:].max() < 50


def make_folder(root, random, splits=("train", "val"), classes=("cat", "dog"), each=3):
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(each):
                pixels = random.integers(0, 256, (10, 12, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.PNG")
    return root


def test_folder_labels_images_by_their_class_folder(tmp_path, random):
    root = make_folder(tmp_path, random)
    (root / "train/cat/.hidden").write_text("left out")
    (root / "train/.cache").mkdir()
    training, validation = open_folder(root, 8)
    assert training.classes == validation.classes == ("cat", "dog")
    assert len(training) == len(validation) == 6
    pixels, labels = training.load([5, 0])
    assert pixels.shape == (2, 8, 8, 3)
    assert labels.tolist() == [1, 0]
    expected = images.decode((root / "train/dog/2.PNG").read_bytes(), "it", 8, 3)
    np.testing.assert_array_equal(pixels[0], expected)
    assert training.fingerprint != validation.fingerprint


def test_folder_keeps_training_labels_when_validation_lacks_a_class(tmp_path, random):
    make_folder(tmp_path, random, ("train",), ("ant", "bee", "cat"))
    make_folder(tmp_path, random, ("val",), ("cat",))
    _, validation = open_folder(tmp_path, 8)
    assert set(validation.load(range(3))[1].tolist()) == {2}


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda root, random: None, "train is not a folder"),
        (lambda root, random: make_folder(root, random, ("train",)), "val is not a folder"),
        (lambda root, random: make_folder(root, random, each=0), "holds no images"),
        (lambda root, random: make_folder(root, random, classes=()), "train is not a folder"),
        (
            lambda root, random: (make_folder(root, random) / "val/cat/notes.txt").write_text(
                "text"
            ),
            "notes.txt is not an image",
        ),
        (
            lambda root, random: (
                make_folder(root, random, ("train",), ("cat",)),
                make_folder(root, random, ("val",), ("dgo",)),
            ),
            "has a class 'dgo'",
        ),
    ],
)
def test_folder_says_what_is_wrong(tmp_path, random, build, sentence):
    build(tmp_path, random)
    with pytest.raises(UserError, match=sentence):
        open_folder(tmp_path, 8)


def test_a_folder_without_splits_is_divided_by_name(tmp_path, random):
    make_folder(tmp_path, random, (".",), ("ant", "bee"), each=7)
    make_folder(tmp_path, random, (".",), ("cat",), each=2)
    training, validation = open_folder(tmp_path, 8, hold_out=3)

    def names(source):
        return [source.name(i).removeprefix(f"{tmp_path}/") for i in range(len(source))]

    held = [f"{name}/{number}.PNG" for name in ("ant", "bee") for number in (2, 5)]
    assert names(validation) == held
    assert validation.labels.tolist() == [0, 0, 1, 1]
    assert training.classes == validation.classes == ("ant", "bee", "cat")
    everything = {f"{name}/{i}.PNG" for name in ("ant", "bee") for i in range(7)}
    everything |= {"cat/0.PNG", "cat/1.PNG"}
    assert set(names(training)) == everything - set(held)
    expected = images.decode((tmp_path / "bee/5.PNG").read_bytes(), "it", 8, 3)
    np.testing.assert_array_equal(validation.load([3])[0][0], expected)
    prints = {source.fingerprint for source in (training, validation)}
    prints |= {source.fingerprint for source in open_folder(tmp_path, 8, hold_out=4)}
    assert len(prints) == 4
    for count, sentence in ((1, "leave none to train on"), (8, "no class in .* has so many")):
        with pytest.raises(UserError, match=sentence):
            open_folder(tmp_path, 8, hold_out=count)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="has its splits already"):
        open_folder(tmp_path, 8, hold_out=3)


def test_a_broken_image_is_named(tmp_path, random):
    root = make_folder(tmp_path, random)
    (root / "train/cat/1.PNG").write_bytes(b"not an image at all")
    training, _ = open_folder(root, 8)
    with pytest.raises(UserError, match=r"train/cat/1.PNG could not be decoded"):
        training.load([0, 1])


def test_a_truncated_image_is_named(tmp_path, random):
    root = make_folder(tmp_path, random)
    whole = encoded(random.integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    (root / "train/cat/1.PNG").write_bytes(whole[: len(whole) // 2])
    training, _ = open_folder(root, 8)
    with pytest.raises(UserError, match=r"1.PNG could not be decoded"):
        training.load([1])


def test_digits_are_scikit_learns_and_split_once():
    training, validation = open_splits("digits", 32)
    assert (len(training), len(validation)) == (1438, 359)
    pixels, labels = training.load([0, 1, 2, 3, 4])
    assert labels.tolist() == [0, 1, 2, 3, 5]  # record 4, a four, is held out
    assert pixels.shape == (5, 32, 32, 3)
    assert np.ptp(pixels.astype(int), axis=3).max() == 0
    assert validation.load([0])[1].tolist() == [4]


def test_synthetic_images_repeat_and_differ():
    training, validation = open_splits("synthetic", 8, num_records=16, num_classes=5)
    first, labels = training.load([3, 4])
    np.testing.assert_array_equal(first[0], training.load([3])[0][0])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(training.load([0])[0], validation.load([0])[0])
    assert len(training.classes) == 5
    assert labels.tolist() == [3, 4]


def test_an_unknown_source_is_refused():
    with pytest.raises(UserError, match="expected one of folder, digits, synthetic"):
        open_splits("imagnet", 8)


def test_without_a_path_a_prepared_set_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"alexnet_none/1.0.0: add --config.data.path=DIR"):
        open_folder(None, 8)


def measured(source, parts=1):
    sums = [
        statistics.sum_images(
            source, np.arange(i, len(source), parts), num_workers=2, progress=lambda *_: None
        )
        for i in range(parts)
    ]
    total = statistics.Sums(
        *(sum(getattr(s, name) for s in sums) for name in ("images", "pixels", "products"))
    )
    return statistics.from_sums(total, source.fingerprint)


def test_statistics_equal_numpy_and_scikit_learn():
    source = sources.Synthetic("train", num_records=200, num_classes=10, size=8, channels=3)
    pixels = source.load(range(200))[0].astype(np.float64)
    pixels[..., 1] = 0.5 * pixels[..., 0] + 0.3 * pixels[..., 1]  # correlated colours
    pixels = np.round(pixels)
    source.load = lambda ids, out=None: (
        pixels[np.asarray(ids)].astype(np.uint8),
        np.zeros(len(ids), np.int32),
    )
    ours = measured(source)
    np.testing.assert_allclose(ours.mean_image, pixels.mean(axis=0), rtol=1e-6)
    pca = PCA().fit(pixels.reshape(-1, 3))
    count = pixels.size / 3
    expected = np.sqrt(pca.explained_variance_ * (count - 1) / count)
    np.testing.assert_allclose(ours.colour_deviations, expected, rtol=1e-5)
    alignment = np.abs(np.sum(ours.colour_directions * pca.components_, axis=1))
    np.testing.assert_allclose(alignment, 1, rtol=1e-5)


def test_an_eigenvectors_sign_does_not_depend_on_the_machine(monkeypatch):
    """LAPACK may return either; the largest component is made positive."""
    source = sources.Synthetic("train", num_records=50, num_classes=10, size=8, channels=3)
    found, eigh = [], np.linalg.eigh
    for signs in ((1, 1, 1), (-1, 1, -1), (-1, -1, -1)):
        monkeypatch.setattr(np.linalg, "eigh", lambda c, s=signs: (eigh(c)[0], eigh(c)[1] * s))
        found.append(measured(source).colour_directions)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    assert (found[0].max(axis=1) == np.abs(found[0]).max(axis=1)).all()


def test_statistics_do_not_depend_on_how_the_work_is_split(tmp_path):
    source = sources.Synthetic("train", num_records=100, num_classes=10, size=8, channels=3)
    one, three = measured(source), measured(source, parts=3)
    np.testing.assert_array_equal(one.mean_image, three.mean_image)
    np.testing.assert_array_equal(one.colour_directions, three.colour_directions)
    one.save(tmp_path / "statistics.npz")
    loaded = statistics.Statistics.load(tmp_path / "statistics.npz")
    np.testing.assert_array_equal(loaded.mean_image, one.mean_image)
    assert (loaded.images, loaded.fingerprint) == (100, source.fingerprint)
    assert [path.name for path in tmp_path.iterdir()] == ["statistics.npz"]


def test_statistics_of_grey_images():
    grey = measured(sources.Digits("train", 8, 1))
    assert grey.colour_directions.shape == (1, 1)
    assert grey.colour_deviations[0] == pytest.approx(95.8, abs=1)


def test_warping_squeezes_the_whole_image_into_the_square(tmp_path):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, :20] = (255, 0, 0)
    pixels[:, 40:] = (0, 0, 255)
    for split in ("train", "val"):
        (tmp_path / split / "only").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / split / "only/1.png")
    (cropped, _), (warped, _) = (open_folder(tmp_path, 30, warp=warp) for warp in (False, True))
    assert cropped.fingerprint != warped.fingerprint
    image = warped.load([0])[0][0]
    assert image.shape == (30, 30, 3)
    assert image[15, 3].tolist() == [255, 0, 0]
    assert image[15, 15].tolist() == [0, 0, 0]
    assert image[15, 26].tolist() == [0, 0, 255]
    assert cropped.load([0])[0][0][:, 5:25].max() == 0  # enlarged: only the seams are mixed
