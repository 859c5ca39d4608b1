"""The step computes the same on every mesh, and what it computes is right."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from alexnet_jax.data.statistics import Statistics
from alexnet_jax.model import alexnet
from alexnet_jax.model import architecture as model_architecture
from alexnet_jax.model.layers import Dense, Output, ReLU
from alexnet_jax.parallel import mesh as meshes
from alexnet_jax.training import metrics
from alexnet_jax.training.rng import example_keys
from alexnet_jax.training.setup import make_preprocessing
from tests.support import miniature
from tests.training.test_plan import load

MESHES = [(4, 1), (1, 2), (2, 2), (4, 2)]


@functools.cache
def one_device(name, count, dtype):
    return miniature.run(name, 1, 1, count, dtype)


def assert_same(ours, theirs, bound):
    pairs = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True)
    for (path, a), b in pairs:
        error = np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64))
        assert error <= bound * np.linalg.norm(b), jax.tree_util.keystr(path)


def cases(quick, slow):
    """The small network on the `quick` meshes; net 145, whose cases are slow, on the others.

    Each is (data, model, whether dense layers are split over "data").
    """
    return [
        *(("tiny", *mesh) for mesh in quick),
        *(pytest.param("net145", *mesh, marks=pytest.mark.slow) for mesh in slow),
    ]


@pytest.mark.parametrize(
    ("name", "data", "model", "split_dense"),
    cases(
        quick=[(2, 2, False), (2, 1, True)],
        slow=[(4, 1, False), (4, 2, False), (2, 2, True)],
    ),
)
def test_ten_steps_agree_with_one_device_in_float64(float64, name, data, model, split_dense):
    expected = one_device(name, 10, "float64")
    history = miniature.run(name, data, model, 10, "float64", split_dense)
    for ours, theirs in zip(history, expected, strict=True):
        assert_same(ours, theirs, 1e-12)
    losses = [float(step["loss"]) for step in expected]
    assert len(set(losses)) == 10


@pytest.mark.parametrize(
    ("name", "data", "model", "split_dense"),
    [
        pytest.param("net145", 4, 2, False, marks=pytest.mark.slow),
        ("tiny", 4, 1, True),
    ],
)
def test_the_first_step_agrees_with_one_device_in_float32(name, data, model, split_dense):
    ours = miniature.run(name, data, model, 1, "float32", split_dense)
    assert_same(ours, one_device(name, 1, "float32"), 1e-5)


@pytest.mark.parametrize("model", [1, 2])
def test_dense_layers_split_over_one_device_are_whole(model):
    split = miniature.run("tiny", 1, model, 1, "float32", split_dense=True)
    whole = miniature.run("tiny", 1, model, 1, "float32")
    assert_same(split, whole, 0)


def test_the_step_is_gradient_then_rule_on_the_view_without_augmentation(float64):
    """Against jax.grad of the plain network and the rule written out, outside any mesh."""
    architecture = miniature.NARROW["tiny"].without_dropout()
    steps = miniature.make_steps(
        "tiny", 2, 2, "float64", architecture=architecture,
        random_crop=False, flip=False, noise=0.0,
    )  # fmt: skip
    preprocessing = miniature.preprocessing_of("tiny")._replace(divisor=np.float32(4))
    images, labels = miniature.batch_of("tiny", 0)
    state = steps.initial_state()
    before = jax.device_get(state.parameters)
    graph = alexnet.graph_of(architecture, miniature.CLASSES, jnp.float64)
    inputs = (images[:, 2:30, 2:30].astype(np.float64) - preprocessing.mean) / 4.0

    def mean_loss(parameters):
        logits = alexnet.apply(graph, parameters, inputs)
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(len(labels)), labels])

    loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(before)
    batch = miniature.put(steps, images, labels)
    state, ours = steps.training()(state, *batch, meshes.put_replicated(steps.mesh, preprocessing))
    np.testing.assert_allclose(ours, loss, rtol=1e-12)
    for layer, kinds in before.items():
        decayed = gradient[layer]["kernel"] + 0.0005 * kinds["kernel"]
        expected = {"kernel": kinds["kernel"] - 0.01 * decayed,
                    "bias": kinds["bias"] - 0.02 * gradient[layer]["bias"]}  # fmt: skip
        assert_same(state.parameters[layer], expected, 1e-12)


def keys_on(data, model, group_size=1, step=3):
    mesh = miniature.make_mesh(data, model)

    def draw():
        keys = example_keys(seed=0, step=jnp.int32(step), batch=64 // data, group_size=group_size)
        return jnp.stack([jax.random.key_data(kind) for kind in keys], axis=1)

    spec = jax.sharding.PartitionSpec("data")
    return np.asarray(jax.jit(jax.shard_map(draw, mesh=mesh, in_specs=(), out_specs=spec))())


@pytest.mark.parametrize(("data", "model"), MESHES)
def test_keys_of_a_row_do_not_depend_on_the_mesh(data, model):
    np.testing.assert_array_equal(keys_on(data, model), keys_on(1, 1))


def test_each_key_is_folded_from_seed_step_use_and_row():
    """One by one, so that a run goes on with the numbers that it began with."""
    ours = keys_on(1, 1)
    of_step = jax.random.fold_in(jax.random.key(0), 3)
    for row, use in ((0, 0), (0, 3), (17, 1), (63, 2), (63, 3)):
        key = jax.random.fold_in(jax.random.fold_in(of_step, use), row)
        np.testing.assert_array_equal(ours[row, use], jax.random.key_data(key))


def test_keys_differ_between_rows_uses_and_steps():
    keys = np.concatenate([keys_on(1, 1), keys_on(1, 1, step=4)]).reshape(-1, 2)
    assert len(np.unique(keys, axis=0)) == len(keys) == 2 * 64 * 4


def test_runs_of_32_share_crop_and_flip_but_nothing_else():
    keys = keys_on(2, 1, group_size=32)
    for use, distinct in enumerate((2, 2, 64, 64)):
        assert len(np.unique(keys[:, use], axis=0)) == distinct
        if distinct == 2:
            assert (keys[:32, use] == keys[0, use]).all()


@pytest.mark.parametrize("labels_missing", [0, 5])
def test_scores_equal_scikit_learns(float64, labels_missing):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(40, 12)), random.integers(0, 12, 40)
    labels[:labels_missing] = -1
    _, sums = metrics.score(jnp.asarray(logits), jnp.asarray(labels))
    real, names = labels >= 0, list(range(12))
    probabilities = np.array(jax.nn.softmax(logits[real]))
    means = metrics.means([jax.device_get(sums)])
    assert means["images"] == 40 - labels_missing
    expected = log_loss(labels[real], probabilities, labels=names)
    np.testing.assert_allclose(means["loss"], expected, rtol=1e-12)
    for k, error in ((1, "top1_error"), (5, "top5_error")):
        accuracy = top_k_accuracy_score(labels[real], probabilities, k=k, labels=names)
        np.testing.assert_allclose(means[error], 1 - accuracy, rtol=1e-12)


def test_smoothed_labels_cost_what_numpy_says(float64):
    """Per row; images that are padding or could not be read cost as before."""
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(6, 5)), np.array([0, 4, 2, 2, -1, -2])
    losses, sums = metrics.score(jnp.asarray(logits), jnp.asarray(labels), label_smoothing=0.2)
    wanted = np.full((4, 5), 0.2 / 5)
    wanted[np.arange(4), labels[:4]] += 0.8
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = [*-(wanted * np.log(likely[:4])).sum(axis=1), 0, np.log(5)]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_allclose(sums["loss"], np.sum(expected), rtol=1e-12)


def test_a_logit_that_is_no_number_or_a_tie_is_an_error():
    logits = jnp.array([[jnp.nan, 1.0], [1.0, jnp.nan], [2.0, 2.0], [3.0, 2.0]])
    _, sums = metrics.score(logits, jnp.zeros(4, jnp.int32))
    assert int(sums["top1_errors"]) == 3
    assert int(sums["images"]) == 4


def test_colour_noise_ends_at_its_step():
    steps = miniature.make_steps("tiny", 1, 1, noise_end=1)
    quiet = miniature.make_steps("tiny", 1, 1, noise=0.0)
    preprocessing = miniature.preprocessing_of("tiny")
    images, _ = miniature.put(steps, *miniature.batch_of("tiny", 0))
    for step, same in ((0, False), (1, True)):
        noisy, without = (s.augmented()(np.int32(step), images, preprocessing)
                          for s in (steps, quiet))  # fmt: skip
        assert (np.asarray(noisy) == np.asarray(without)).all() == same


def test_training_scores_add_up_over_steps():
    steps = miniature.make_steps("tiny", 2, 2)
    preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("tiny"))
    state, train = steps.initial_state(), steps.training()
    losses = []
    for step in range(3):
        batch = miniature.put(steps, *miniature.batch_of("tiny", step))
        state, loss = train(state, *batch, preprocessing)
        losses.append(float(loss))
    means = metrics.means([jax.device_get(state.scores)])
    assert means["images"] == 3 * miniature.BATCH
    assert means["loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert int(state.step) == 3
    reset = steps.with_scores_reset(state)
    assert int(reset.scores["images"]) == 0


def test_bfloat16_trains_with_float32_parameters():
    steps = miniature.make_steps("tiny", 1, 1)
    steps = dataclasses.replace(steps, dtype=jnp.dtype("bfloat16"))
    preprocessing = miniature.preprocessing_of("tiny")
    batch = miniature.put(steps, *miniature.batch_of("tiny", 0))
    state, loss = steps.training()(steps.initial_state(), *batch, preprocessing)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.parameters)} == {jnp.dtype("float32")}
    assert loss.dtype == jnp.float32
    assert np.isfinite(loss)


def test_a_gradient_norm_of_parts_on_four_devices_is_that_of_numpy():
    """Measured at every second step only; the mean over those."""
    steps = dataclasses.replace(miniature.make_steps("tiny", 2, 2), norm_every=2)
    preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("tiny"))
    state, train, gradients = steps.initial_state(), steps.training(), steps.gradients()
    expected = []
    for step in range(4):
        batch = miniature.put(steps, *miniature.batch_of("tiny", step))
        found, _ = gradients(state, *batch, preprocessing)
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]
        expected.append(np.sqrt(sum((leaf**2).sum() for leaf in leaves)))
        state, _ = train(state, *batch, preprocessing)
    means = metrics.means([jax.device_get(state.scores)])
    assert means["gradient_norm"] == pytest.approx((expected[1] + expected[3]) / 2, rel=1e-5)


def test_views_are_what_the_network_sees():
    """Drawn anew at each step, and without augmentation the centre less the mean."""
    steps = miniature.make_steps("tiny", 1, 1)
    preprocessing = meshes.put_replicated(steps.mesh, miniature.preprocessing_of("tiny"))
    images, _ = miniature.put(steps, *miniature.batch_of("tiny", 0))
    first = np.asarray(steps.augmented()(np.int32(0), images, preprocessing))
    again = np.asarray(steps.augmented()(np.int32(0), images, preprocessing))
    other = np.asarray(steps.augmented()(np.int32(1), images, preprocessing))
    assert first.shape == (miniature.BATCH, 28, 28, 3)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1
    plain = dataclasses.replace(steps.augmentation, random_crop=False, flip=False, noise=0.0)
    plain = dataclasses.replace(steps, augmentation=plain)
    centre = np.asarray(plain.augmented()(np.int32(0), images, preprocessing))
    expected = np.asarray(images)[:, 2:30, 2:30].astype(np.float32)
    mean = miniature.preprocessing_of("tiny").mean
    np.testing.assert_allclose(centre, expected - mean, rtol=1e-6)


@pytest.mark.parametrize("stored", [32, 28])
def test_a_mean_at_the_crop_moves_and_flips_with_it(stored):
    """An image equal to the mean becomes zero at any crop; with a fixed mean it does not."""
    image = np.random.default_rng(3).integers(0, 256, (stored, stored, 3), np.uint8)
    start = (stored - 28) // 2
    centre = image[start : start + 28, start : start + 28]
    for mean, at_the_crop in ((image, True), (centre, False)):
        steps = miniature.make_steps("tiny", 1, 1, noise=0.0, mean_at_crop=at_the_crop)
        preprocessing = miniature.preprocessing_of("tiny")._replace(mean=np.float32(mean))
        images, _ = miniature.put(
            steps, np.stack([image] * miniature.BATCH), np.zeros(miniature.BATCH, np.int32)
        )
        placed = meshes.put_replicated(steps.mesh, preprocessing)
        seen = np.asarray(steps.augmented()(np.int32(0), images, placed))
        assert seen.shape == (miniature.BATCH, 28, 28, 3)
        assert (np.abs(seen).max() == 0) == at_the_crop


COLOURS = Statistics(
    images=7,
    mean_image=np.random.default_rng(4).uniform(90, 130, (32, 32, 3)).astype(np.float32),
    colour_deviations=np.float32([121.78, 37.094, 19.721]),
    colour_directions=np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0],
    fingerprint="",
)


@pytest.mark.parametrize(
    ("mean", "units", "noise_by", "divides"),
    [
        ("image", "grey_levels", "deviations", True),
        ("channel", "grey_levels", "eigenvalues", False),
        ("scalar", "grey_levels", "eigenvalues", True),
        ("none", "min_max", "deviations", False),
        ("channel", "standardise", "eigenvalues", False),
    ],
)
def test_every_convention_of_pixels_equals_numpys(float64, mean, units, noise_by, divides):
    """The training view with colour noise on the centre crop, and the same without noise."""
    config = load("quickstart")
    config.data.update(mean=mean, units=units, colour_noise_by=noise_by,
                       scale=16.0 if units == "grey_levels" else 1.0)  # fmt: skip
    steps = miniature.make_steps(
        "tiny", 1, 1, "float64",
        random_crop=False, flip=False, noise=0.1, noise_end=1, noise_divides=divides,
    )  # fmt: skip
    preprocessing = make_preprocessing(config, steps.architecture, COLOURS, steps.mesh)
    images, _ = miniature.put(steps, *miniature.batch_of("tiny", 0))
    noisy, plain = (steps.augmented()(np.int32(step), images, preprocessing) for step in (0, 1))

    pixels = np.asarray(images)[:, 2:30, 2:30].astype(np.float64)
    channels = COLOURS.mean_image.astype(np.float64).mean(axis=(0, 1))
    subtracted = {"image": COLOURS.mean_image[2:30, 2:30], "channel": channels,
                  "scalar": channels.mean(), "none": 0.0}[mean]  # fmt: skip
    deviations, directions = np.float64(COLOURS.colour_deviations), COLOURS.colour_directions
    covariance = directions.T @ np.diag(deviations**2) @ directions
    divisor = {"grey_levels": 16.0, "min_max": 255.0, "standardise": np.sqrt(np.diag(covariance))}
    expected = (pixels - subtracted) / divisor[units]
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=1e-5)

    lengths = deviations if noise_by == "deviations" else (deviations / 255) ** 2 * 255
    shifts = np.asarray(noisy) * (1.1 if divides else 1.0) * divisor[units] - pixels + subtracted
    np.testing.assert_allclose(shifts, shifts[:, :1, :1] + 0 * shifts, atol=1e-3)
    drawn = shifts[:, 0, 0] @ directions.T / (0.1 * lengths)
    z = np.asarray([jax.random.normal(key, (3,), jnp.float32) for key in keys_by_hand(COLOUR)])
    np.testing.assert_allclose(drawn, z, atol=1e-3)


CROP, FLIP, COLOUR = range(3)  # uses of a row's keys


def keys_by_hand(use, step=0, seed=5):
    """The keys of all rows for one use: (seed, step, use, row) folded one by one."""
    root = jax.random.key(seed, impl="threefry2x32")
    own = jax.random.fold_in(jax.random.fold_in(root, step), use)
    return [jax.random.fold_in(own, row) for row in range(miniature.BATCH)]


@pytest.mark.parametrize("step", range(3))
def test_a_flip_has_a_key_of_its_own(step):
    """Beside random crops, from which it must not follow."""
    steps = miniature.make_steps("tiny", 1, 1, noise=0.0)
    images, _ = miniature.put(steps, *miniature.batch_of("tiny", 0))
    preprocessing = miniature.plain_preprocessing(steps)
    seen = np.asarray(steps.augmented()(np.int32(step), images, preprocessing))
    crops = np.lib.stride_tricks.sliding_window_view(images, (28, 28), axis=(1, 2))
    for row, key in enumerate(keys_by_hand(FLIP, step)):
        flipped = bool(jax.random.bernoulli(key))
        view = (seen[row, :, ::-1] if flipped else seen[row]) + 120
        places = crops[row].transpose(0, 1, 3, 4, 2)  # [top, left, height, width, channels]
        assert (places == view).all(axis=(2, 3, 4)).sum() == 1


@pytest.mark.parametrize("name", ["tiny", pytest.param("net145", marks=pytest.mark.slow)])
def test_a_device_of_eight_has_the_work_and_memory_of_one(name):
    """Of the compiled program, with as many rows a device: what sums gradients is all that is new.

    That adds each gradient once, and reads and writes it. Were an activation gathered or a product
    repeated on all devices, the numbers would be multiples.
    """

    def cost(devices):
        steps = miniature.make_steps(name, devices, 1)
        shapes = steps.batch_shapes(miniature.BATCH * devices, miniature.STORED[name])
        preprocessing = miniature.plain_preprocessing(steps)
        compiled = steps.training().lower(steps.state_shapes(), *shapes, preprocessing).compile()
        found, held = compiled.cost_analysis(), compiled.memory_analysis()
        return [found["flops"], found["bytes accessed"], held.temp_size_in_bytes]

    layers = miniature.NARROW[name].parameter_shapes(miniature.CLASSES).values()
    parameters = sum(np.prod(shape) for kinds in layers for shape in kinds.values())
    one, eight = np.array(cost(1)), np.array(cost(8))
    assert (one > 0).all()
    assert eight[0] > 0.99 * one[0]
    assert (eight <= one + parameters * np.array([1, 2 * 4, 0])).all()


@pytest.mark.parametrize("rows", [8, 80])  # few, and many
@pytest.mark.parametrize("towers", [1, 2])
def test_one_device_copies_no_dense_kernel(towers, rows):
    """Nor its gradient for a sum over one device: of large networks that takes as long as a layer.

    It would also copy a kernel if XLA could not see that the update comes after all that read it.
    """
    layers = (Dense("fc1", 40 * towers), ReLU(), Dense("fc2", 24 * towers), ReLU(), Output("fc3"))
    architecture = model_architecture.Architecture("dense", 8, 3, towers, layers)
    steps = miniature.make_steps("", 1, 1, architecture=architecture)
    shapes = steps.batch_shapes(rows, 9)
    preprocessing = miniature.plain_preprocessing(steps)
    program = steps.training().lower(steps.state_shapes(), *shapes, preprocessing).compile()
    lines = [line for line in program.as_text().splitlines() if f"f32[{towers},40,24]" in line]
    assert any(" fusion(" in line for line in lines)
    assert not any(" copy(" in line or " all-reduce(" in line for line in lines)
