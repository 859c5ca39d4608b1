"""What visualize shows of the inside of a network: maps, views of training, maximised units."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import nnx

from alexnet_jax import kernels
from alexnet_jax.model import alexnet, receptive_field
from alexnet_jax.model import intermediates as names
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.tools.visualize import activations, augmentation, classes, maximise
from tests.support import weighted


def quiet(done, total):
    pass


def test_grids_have_every_map_once_and_in_order():
    maps = np.random.default_rng(0).normal(size=(30, 30, 11))
    for wide in (0.3, 1.0, 4.0):
        found = activations.grid(maps, wide)
        columns = -(-found.shape[1] // 32)
        for index in range(11):
            top, left = 32 * (index // columns), 32 * (index % columns)
            assert np.array_equal(found[top : top + 30, left : left + 30], maps[..., index])
        assert np.count_nonzero(np.isfinite(found)) == maps.size
    shapes = [activations.grid(maps, wide).shape for wide in (0.3, 4.0)]
    assert shapes[0][0] > shapes[0][1]
    assert shapes[1][0] < shapes[1][1]
    small = activations.grid(
        maps[:3, :3], 1.0
    )  # enlarged, or the gaps would be as wide as the maps
    assert np.array_equal(small[:30:10, :30:10], maps[:3, :3, 0])


def test_layers_are_seen_after_their_function_and_by_tower():
    trained = weighted.trained("quickstart", width=1 / 8, size=32)
    assert activations.layer_names(trained) == ("conv1.relu", "conv2", "conv3", "fc6", "fc7")
    lenet = weighted.trained("lenet5", width=1)
    assert activations.layer_names(lenet) == ("conv1", "conv2", "fc3", "fc4")
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    asked = ("conv2", "conv1.norm", "fc6", "fc8")
    seen = {one.name: one.values for one in activations.capture_layers(trained, image, asked)}
    view = (image[None, 2:30, 2:30] - trained.pixels.mean) / trained.pixels.divisor
    graph = alexnet.graph_of(trained.architecture, 10)
    whole = jax.jit(functools.partial(names.activations, graph))(
        trained.parameters, np.float32(view)
    )
    for name in asked:
        own = np.asarray(whole[name][0])
        towers = np.split(own, 2, axis=-1) if name != "fc8" else [own]
        np.testing.assert_allclose(seen[name], towers, rtol=1e-4, atol=1e-4)
    assert (
        len(activations.draw_layer(activations.LayerActivations("conv2", seen["conv2"]), "x").axes)
        == 3
    )
    with pytest.raises(UserError, match="has no activations 'conv9': expected one of conv1"):
        activations.capture_layers(trained, image, ["conv9"])


def recipe(**changed):
    random = np.random.default_rng(3)
    plain = augmentation.Recipe(
        size=40, crop=28, channels=3, warp=False, random_crop=True, flip=True,
        mean=np.float32(random.uniform(90, 130, (28, 28, 3))), mean_at_crop=False,
        directions=np.float32(random.normal(scale=40, size=(3, 3))),
        divisor=np.float32([50, 60, 70]), noise=0.5, noise_divides=True,
    )  # fmt: skip
    return dataclasses.replace(plain, **changed)


@pytest.mark.parametrize("mean_at_crop", [False, True])
def test_views_are_those_parts_of_the_image(mean_at_crop):
    random = np.random.default_rng(4)
    how = recipe(mean_at_crop=mean_at_crop, noise_divides=not mean_at_crop)
    if mean_at_crop:
        how = dataclasses.replace(how, mean=np.float32(random.uniform(90, 130, (40, 40, 3))))
    image = random.integers(0, 256, (40, 40, 3), np.uint8)
    views = augmentation.augmented_crops(how, image, 8, seed=1)
    assert len({tuple(place) for place in views.positions[:, :2]}) > 4
    assert set(views.positions[:, 2]) == {0, 1}

    def at(whole, place):
        patch = whole[place[0] : place[0] + 28, place[1] : place[1] + 28]
        return patch[:, ::-1] if place[2] else patch

    for row, place in enumerate(views.positions):
        assert np.array_equal(views.cropped[row], at(image, [*place[:2], 0]))
        assert np.array_equal(views.flipped[row], at(image, place))
        mean = at(how.mean, place) if mean_at_crop else how.mean
        grown = 1 if mean_at_crop else 1.5
        shift = (views.tinted[row] - mean) * grown - (views.flipped[row] - mean)
        assert np.ptp(shift, axis=(0, 1)).max() < 1e-3  # one colour for the whole view
        assert np.abs(shift).max() > 1
        np.testing.assert_allclose(views.inputs[row] * how.divisor + mean, views.tinted[row],
                                   atol=1e-3)  # fmt: skip
    again = augmentation.augmented_crops(how, image, 8, seed=1)
    assert np.array_equal(views.inputs, again.inputs)


def test_views_without_any_chance_are_the_centre():
    image = np.random.default_rng(4).integers(0, 256, (40, 40, 3), np.uint8)
    how = recipe(random_crop=False, flip=False, noise=0.0)
    views = augmentation.augmented_crops(how, image, 2, seed=1)
    assert views.positions.tolist() == [[6, 6, 0]] * 2
    np.testing.assert_allclose(views.tinted[1], image[6:34, 6:34], atol=1e-4)


def test_maximising_raises_each_unit_and_repeats_itself():
    trained = weighted.trained("lenet5_relu", width=1, size=36)
    how = maximise.Ascent(steps=12, step_size=8.0)
    told = []
    found = maximise.ascend(
        trained, "fc5", [7, 2], how, 0, lambda done, total: told.append((done, total))
    )
    assert told == [(10, 12), (12, 12)]
    assert np.all(found.after > found.before + 0.5)
    assert found.images.shape == (2, 32, 32, 1)
    again = maximise.ascend(trained, "fc5", [7, 2], how, 0, quiet)
    assert np.array_equal(found.images, again.images)
    assert np.array_equal(found.after, again.after)
    # The picture itself, as anyone would show it to the network, has that logit.
    view = (np.float32(found.images) - trained.pixels.mean) / trained.pixels.divisor
    graph = alexnet.graph_of(trained.architecture, 10)
    logits = np.asarray(jax.jit(alexnet.apply, static_argnums=0)(graph, trained.parameters, view))
    np.testing.assert_allclose(logits[[0, 1], [7, 2]], found.after, atol=0.05)
    with pytest.raises(UserError, match="fc5 has no unit 10: it has 10, numbered from 0 on"):
        maximise.ascend(trained, "fc5", [10], how, 0, quiet)
    with pytest.raises(UserError, match="has no activations 'conv7'"):
        maximise.ascend(trained, "conv7", [0], how, 0, quiet)


@pytest.mark.slow
def test_a_unit_of_a_map_is_raised_in_the_middle_and_another_seed_gives_another_image():
    trained = weighted.trained("quickstart", width=1 / 4, size=32, mean=110)
    how = maximise.Ascent(steps=20, step_size=8.0)
    found = maximise.ascend(trained, "conv1", [0, 3], how, 0, quiet)
    assert np.all(found.after > found.before)
    assert found.images.shape[1:3] == (5, 5)
    other = maximise.ascend(trained, "conv1", [0, 3], dataclasses.replace(how, grey=True), 1, quiet)
    assert np.ptp(found.images.astype(int), axis=-1).max() > 20
    assert np.ptp(other.images.astype(int), axis=-1).max() == 0
    assert not np.array_equal(found.images, other.images)
    # A unit of the first layer before its function: its kernel's sign says which pixels are white.
    kernel = trained.parameters["conv1"]["kernel"][0, ..., 3]
    plain = dataclasses.replace(how, jitter=0, blur=0.0, decay=0.0, steps=100)
    found = maximise.ascend(trained, "conv1", [3], plain, 0, quiet)
    certain = np.abs(kernel) > 0.1 * np.abs(kernel).max()
    assert np.array_equal(found.images[0][certain] == 255, kernel[certain] > 0)
    assert np.array_equal(found.images[0][certain] == 0, kernel[certain] < 0)


def test_blurring_is_scipys():
    from scipy.ndimage import gaussian_filter1d

    values = np.random.default_rng(0).normal(size=40)
    found = maximise.blur_matrix(40, 1.3) @ values
    expected = gaussian_filter1d(values, 1.3, truncate=20, mode="constant")
    np.testing.assert_allclose(found[10:30], expected[10:30], atol=1e-5)
    np.testing.assert_allclose(maximise.blur_matrix(40, 1.3) @ np.ones(40), 1, atol=1e-6)
    assert np.array_equal(maximise.blur_matrix(5, 0), np.eye(5))


def test_receptive_fields_are_those_known_of_alexnet():
    plain = NETWORKS["one_weird_trick"]  # without norms over windows of pixels
    places, shapes = names.activation_places(plain), list(plain.shapes())
    known = {"conv1": 11, "conv1.pool": 19, "conv2": 51, "conv2.pool": 67, "conv3": 99,
             "conv4": 131, "conv5": 163}  # fmt: skip
    for name, side in known.items():
        layer, shape = shapes[places[name]]
        first, last = receptive_field.receptive_field(
            plain, places[name], layer.output(shape, 1)[0] // 2
        )
        assert last - first + 1 == side, name
    assert receptive_field.receptive_field(plain, places["fc6"], 0) == (0, 223)
    assert receptive_field.receptive_field(plain, places["conv1"], 0) == (0, 8)  # padded by two


@pytest.mark.slow
@pytest.mark.parametrize("network_name", ["quickstart", "cifar_18pct", "cifar_11pct"])
def test_gradients_reach_no_further_than_the_receptive_field(network_name):
    """With windows as such; Winograd's sums leave rounding errors beyond it, and no more."""
    trained = weighted.trained(network_name, width=1)
    side = trained.architecture.input_size
    places = names.activation_places(trained.architecture)
    images = np.random.default_rng(0).normal(scale=2, size=(16, side, side, 3)).astype(np.float32)
    for name, index in places.items():
        shape = maximise.place_of(trained, name)[2]
        if len(shape) < 3:
            continue
        middle = shape[0] // 2

        def sizes(choice, index=index, middle=middle):  # of the gradient in each row of pixels
            operations = kernels.select(choice, "cpu")
            graph = alexnet.graph_of(trained.architecture, 10, operations=operations)
            module = nnx.merge(graph, trained.parameters)

            def total(images):
                found = {}
                module(images, capture=found.__setitem__)
                return sum((maps[:, middle, middle] ** 2).sum() for maps in found[index])

            return np.abs(np.asarray(jax.jit(jax.grad(total))(images))).max(axis=(0, 2, 3))

        first, last = receptive_field.receptive_field(trained.architecture, index, middle)
        reached = np.flatnonzero(sizes("tuned,-winograd,-narrow_conv"))
        assert reached[[0, -1]].tolist() == [first, last], name
        fast = sizes("tuned")
        assert max([0, *fast[:first], *fast[last + 1 :]]) < 1e-5 * fast.max(), name


def test_classes_are_found_by_name_or_words():
    trained = weighted.trained("lenet5", width=1)
    trained = dataclasses.replace(trained, classes=("n01440764", "n01443537", "dog"))
    assert classes.find_label(trained, "tench") == classes.find_label(trained, "n01440764") == 0
    assert classes.find_label(trained, "dog") == 2
    with pytest.raises(UserError, match="knows no class 'dig' among its 3: did you mean 'dog'"):
        classes.find_label(trained, "dig")
    assert classes.parse_numbers("unit", ["3", "12"]) == [3, 12]
    with pytest.raises(UserError, match="--unit=-1 is no number from 0 on"):
        classes.parse_numbers("unit", ["-1"])
