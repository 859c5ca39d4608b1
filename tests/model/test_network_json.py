"""A network as JSON comes back as it was, and one that can't be built is refused by its fault."""

import dataclasses
import json

import pytest

from alexnet_jax.model import network_json
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Elementwise, MaxPool, Output, ReLU
from alexnet_jax.model.networks import NETWORKS, Variant
from alexnet_jax.runtime.errors import UserError

SMALL = Architecture(
    "small", 12, 3, 2, num_classes=4,
    layers=(Convolution("conv1", filters=4, size=3), ReLU(), MaxPool(3, 2), Dense("fc2", units=6),
            Output("fc3")),
)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_comes_back(name):
    network = NETWORKS[name]
    back = network_json.from_json(network_json.to_json(network))
    assert back == dataclasses.replace(network, reported="", source="")


def test_a_variant_of_ones_own_network_is_changed_as_others_are():
    variant = Variant("small", width=2.0, towers=1, layers=network_json.to_json(SMALL))
    assert variant.architecture() == SMALL.with_towers(1).with_width(2.0)


def with_layers(*layers, **changed):
    return dataclasses.replace(SMALL, layers=layers, **changed)


CONV, OUTPUT = Convolution("conv1", filters=4, size=3), Output("fc3")


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (with_layers(), "its last layer is not an Output"),
        (with_layers(OUTPUT, CONV), "its last layer is not an Output"),
        (with_layers(Output("a"), OUTPUT), "the Output a is not its last layer"),
        (with_layers(CONV, CONV, OUTPUT), "two layers are called conv1"),
        (with_layers(Convolution("a b", filters=4, size=3), OUTPUT), "a layer is called 'a b'"),
        (with_layers(Convolution("c", filters=3, size=3), OUTPUT), "the 3 filters of c .* 2 tow"),
        (with_layers(Convolution("c", filters=4, size=13), OUTPUT), "nothing is left of the image"),
        (with_layers(OUTPUT, input_size=0), "input_size is 0"),
        (with_layers(OUTPUT, towers=2.0), "towers is 2.0"),
        (with_layers(Convolution("c", filters=4, size=None), OUTPUT), "shapes can't be computed"),
    ],
)
def test_a_network_that_cant_be_built_is_refused(network, sentence):
    with pytest.raises(UserError, match=f"The network small can't be built: .*{sentence}"):
        network_json.to_json(network)


def changed(**values):
    """SMALL as JSON with fields changed, of its first layer where they start with layer_."""
    content = json.loads(network_json.to_json(SMALL))
    for name, value in values.items():
        target = content["layers"][0] if name.startswith("layer_") else content
        target[name.removeprefix("layer_")] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "7", "null", changed(more=1), changed(layers=3), changed(layers=[3]),
     changed(layers=[{}]), changed(layer_size="3"), changed(layer_size=True),
     changed(layer_sizes=3), changed(layer_low_resolution={"a": 1}), changed(layer_floor=1)],
)  # fmt: skip
def test_damaged_json_is_refused(text):
    with pytest.raises(UserError, match="The list of layers of this network is damaged"):
        network_json.from_json(text)


def test_a_layer_that_is_not_known_is_named():
    with pytest.raises(UserError, match="a layer of the kind Nothing, .* --code=FILE.py"):
        network_json.from_json(changed(layer_type="Nothing"))


@dataclasses.dataclass(frozen=True)
class NotRegistered(Elementwise):
    text: str = ""

    def __call__(self, x, ops):
        return x


def test_layers_are_registered_before_they_are_kept():
    with pytest.raises(UserError, match="NotRegistered, which is not registered"):
        network_json.to_json(with_layers(CONV, NotRegistered(), OUTPUT))
    with pytest.raises(UserError, match="ReLU can't be registered: this project has"):
        network_json.register_layer(dataclasses.make_dataclass("ReLU", []))
    with pytest.raises(UserError, match="expected a class with @dataclasses.dataclass"):
        network_json.register_layer(object)
