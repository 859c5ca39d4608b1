"""The model of scaling against closed forms, and its command."""

import argparse
import json
import math
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from alexnet_jax.benchmark import links, scaling, scaling_report, step_time, traffic
from alexnet_jax.benchmark.cluster import Cluster, Cost
from alexnet_jax.benchmark.links import Link
from alexnet_jax.benchmark.scaling import LayerTime
from alexnet_jax.benchmark.traffic import Transfer
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.terminal import Terminal
from tests.support import miniature

ROOT = pathlib.Path(__file__).parent.parent.parent
SILENT = Terminal(speaks=False)
NET145, SPEED = NETWORKS["net145"], 1000.0
FAST = Link("fast", 100.0, False, 0.5, 3.0, "none")  # 50 bytes a second reached
SLOW = Link("slow", 40.0, True, 0.25, 7.0, "none")  # 10 for the devices of a node together
FREE = Link("free", math.inf, False, 1.0, 0.0, "none")


def transfer(kind, axis="data", values=120, phase="gradient", layer="one"):
    return Transfer(kind, kind, axis, values, 4, phase, layer)


def predict(layout, devices, batch, inside=FAST, between=SLOW, per_node=8, **more):
    cluster = Cluster(per_node, inside, between)
    return scaling.predict(
        NET145, 1000, layout, devices=devices, batch_size=batch, images_per_second=SPEED,
        cluster=cluster, **more,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "rounds"), [("all-reduce", 2), ("all-gather", 1), ("reduce-scatter", 1)])  # noqa: E501  # fmt: skip
def test_a_ring_in_one_node(kind, rounds):
    """480 bytes over four devices: three hops move 120 bytes each, at 50 bytes a second."""
    found = Cluster(8, FAST, SLOW).cost(transfer(kind), 4, 1)
    assert found == Cost(rounds * 360, 0, pytest.approx(rounds * (360 / 50 + 3 * 3.0)))


def test_rings_between_nodes_carry_a_devices_part():
    """Three nodes of two: 240 bytes inside; of the 240 of its part, two thirds outside, twice.

    Both devices of a node share its 10 bytes a second.
    """
    found = Cluster(2, FAST, SLOW).cost(transfer("all-reduce"), 6, 1)
    assert (found.inside, found.between) == (480, 320)
    assert found.seconds == pytest.approx(480 / 50 + 320 / 5 + 2 * (3.0 + 2 * 7.0))
    sent = found.inside + found.between
    assert sent == pytest.approx(2 * 5 / 6 * 480)  # as one ring of six would


@pytest.mark.parametrize(
    ("axis", "per_node", "inside", "between"),
    [("model", 4, 240, 0), ("model", 1, 0, 240), ("data", 4, 240, 180), ("data", 1, 0, 420),
     ("data", 2, 0, 420)],
)  # fmt: skip
def test_a_pair_of_towers_shares_a_node_where_it_can(axis, per_node, inside, between):
    """A gather on 8 x 2 devices: over model in pairs, over data between the nodes' first ones."""
    found = Cluster(per_node, FAST, SLOW).cost(transfer("all-gather", axis), 8, 2)
    assert (found.inside, found.between) == (inside, between)


def test_nodes_are_full():
    with pytest.raises(UserError, match="A mesh of 12 x 1 devices does not fill nodes of 8"):
        predict("data", 12, 12)
    with pytest.raises(UserError, match="A mesh of 3 x 2 devices does not fill nodes of 3"):
        predict("towers", 6, 6, per_node=3)
    assert predict("data", 6, 6).devices == 6


def test_work_is_shared_out_by_multiply_adds():
    layers = {
        one.layer: one
        for one in scaling.layer_times(NET145, 1000, images_per_second=SPEED, images=100)
    }
    assert sum(one.forward for one in layers.values()) == pytest.approx(0.1 / 3)
    assert sum(one.backward for one in layers.values()) == pytest.approx(0.2 / 3)
    share = 223_948_800 / 724_406_816  # conv2's, as in the table of the network
    assert layers["conv2"].forward == pytest.approx(0.1 / 3 * share)


LAYERS = [LayerTime("one", 1.0, 2.0), LayerTime("two", 3.0, 6.0)]


@pytest.mark.parametrize(
    ("sums", "beside", "after"),
    [
        ([("two", 1.0), ("one", 0.5)], 12.5, 13.5),  # only the last layer's is seen
        ([("two", 5.0), ("one", 0.5)], 15.5, 17.5),  # the second waits for the first
        ([("two", 2.0)], 12.0, 14.0),  # hidden
    ],
)
def test_sums_of_gradients_run_beside_the_backward_pass_or_after_it(sums, beside, after):
    """Forward 4 s, backward of `two` until 10, of `one` until 12."""
    sent = [(transfer("all-reduce", layer=layer), Cost(0, 0, time)) for layer, time in sums]
    assert scaling.timeline(LAYERS, sent) == (beside, after)


def test_exchanges_are_waited_for():
    """A gather before `two` costs 10 s, its scatter 10 s more, before `one` can go back.

    The sum of `two`'s gradients runs beside the scatter.
    """
    sent = [
        (transfer("all-gather", "model", phase="forward", layer="two"), Cost(0, 0, 10.0)),
        (transfer("reduce-scatter", "model", phase="backward", layer="two"), Cost(0, 0, 10.0)),
        (transfer("all-reduce", layer="two"), Cost(0, 0, 11.0)),
    ]
    assert scaling.timeline(LAYERS, sent) == (32.0, 43.0)


@pytest.mark.parametrize("layout", ["data", "hybrid"])
def test_one_device_is_its_own_measure(layout):
    found = predict(layout, 1, 128)
    assert found.beside == found.after == found.compute == pytest.approx(0.128)
    assert found.efficiency_beside == found.efficiency_after == pytest.approx(1)
    assert found.inside_bytes == found.between_bytes == 0


def test_data_parallel_net145_on_two_devices():
    """60,965,224 gradients and four sums, in ten rings of two hops: half of each, twice."""
    found = predict("data", 2, 256, inside=Link("plain", 1e9, False, 1.0, 1e-3, "none"))
    size = 4 * (60_965_224 + 4)
    assert found.inside_bytes == pytest.approx(size)
    assert found.gradients == pytest.approx(size / 1e9 + 10 * 2 * 1e-3)
    assert found.after == pytest.approx(0.128 + found.gradients)
    # Beside: only the scores' sums and those of the softmax layer wait for nothing but it.
    fc8 = scaling.layer_times(NET145, 1000, images_per_second=SPEED, images=128)[-1].backward
    assert found.beside == pytest.approx(0.128 / 3 + fc8 + found.gradients)


@pytest.mark.parametrize("layout", traffic.LAYOUTS)
@pytest.mark.parametrize("devices", [2, 16, 1024])
def test_free_links_cost_nothing(layout, devices):
    found = predict(layout, devices, 2 * devices, FREE, FREE)
    assert found.efficiency_beside == pytest.approx(1)
    assert found.efficiency_after == pytest.approx(1)


@pytest.mark.parametrize("layout", traffic.LAYOUTS)
@pytest.mark.parametrize("link", links.LINKS.values(), ids=lambda link: link.name)
def test_bounds_are_in_order(layout, link):
    for devices in (2, 8, 64, 1024):
        found = predict(layout, devices, 8 * devices, link, link)
        longest = max(found.compute, found.exchanges + found.compute, found.gradients)
        assert longest <= found.beside + 1e-12
        assert found.beside <= found.after + 1e-12
        parts = found.compute + found.exchanges + found.gradients
        assert found.after == pytest.approx(parts)


def test_hybrid_sends_less_until_the_batch_outgrows_the_dense_gradients():
    """28,624 values an image there and back, against 58,630,144 dense gradients sent twice.

    With 128 images a device on n devices, hybrid has 128 n images: more to send from n = 33 on.
    Convolutions and biases cost both the same.
    """
    dense = 37_752_832 + 16_781_312 + 4_096_000
    crossover = 2 * dense / (28_624 * 128)
    assert 32 < crossover < 33
    per_node = 2048
    for devices, hybrid_wins in ((2, True), (16, True), (32, True), (64, False), (1024, False)):
        data, hybrid = (
            predict(layout, devices, 128 * devices, per_node=per_node).inside_bytes
            for layout in ("data", "hybrid")
        )
        assert (hybrid < data) == hybrid_wins
    # Strong scaling holds the batch, so hybrid goes on sending less.
    data, hybrid = (
        predict(layout, 1024, 1024, per_node=per_node).inside_bytes for layout in ("data", "hybrid")
    )
    assert hybrid < 0.3 * data


def test_half_precision_halves_what_is_sent():
    wide, narrow = (predict("data", 2, 2, width=width).inside_bytes for width in (4, 2))
    assert narrow == pytest.approx(wide / 2, rel=1e-3)


def flags(**changed):
    words = {
        "network": "net145", "layouts": "data,towers,hybrid", "devices": "1,2,3",
        "devices_per_node": 8, "inside": "nvlink4", "between": "ndr400", "dtype": "float32",
        "batch_size": 128, "global_batch_size": None, "images_per_second": 100.0, "steps": 2,
        "json": None, "run": "scaling", "plot": None,
    }  # fmt: skip
    return argparse.Namespace(**(words | changed))


def test_what_is_impossible_is_left_out_with_its_reason():
    found, left_out = scaling_report.predict_all(scaling_report.parse_question(flags()), 100.0)
    assert [(one.devices, one.layout) for one in found] == [
        (1, "data"), (1, "hybrid"), (2, "data"), (2, "towers"), (2, "hybrid"), (3, "data"),
    ]  # fmt: skip
    assert [sentence.split(".")[0] for sentence in left_out] == [
        "Left out: towers on 1", "Left out: towers on 3", "Left out: hybrid on 3",
    ]  # fmt: skip
    assert "The 2,048 units of fc6" in left_out[2]


def test_strong_scaling_holds_the_images_of_a_step():
    question = scaling_report.parse_question(
        flags(global_batch_size=256, devices="1,2,512", layouts="data")
    )
    found, left_out = scaling_report.predict_all(question, 100.0)
    assert [one.batch for one in found] == [256, 256]
    assert found[0].compute == 2 * found[1].compute
    assert "256 images cannot be shared by 512" in left_out[0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"network": "net154"}, "There is no network 'net154': did you mean net15"),
        ({"layouts": "data,tower"}, "There is no layout 'tower': use data, towers, hybrid"),
        ({"devices": "1,two"}, "--devices=1,two must be numbers"),
        ({"devices": "0,2"}, "--devices must be at least 1, not 0"),
        ({"inside": "nvlink"}, "There is no link 'nvlink': did you mean nvlink4"),
        ({"dtype": "float16"}, "--dtype=float16 must be float32 or bfloat16"),
        ({"global_batch_size": 0}, "--global_batch_size must be at least 1, not 0"),
        ({"images_per_second": -1.0}, "--images_per_second=-1 must be above 0"),
        ({"plot": "scaling.bmp"}, "--plot=scaling.bmp must end in .png"),
        ({"json": "nowhere/a.json"}, "there is no folder nowhere"),
        ({"network": "cifar_18pct", "layouts": "hybrid"}, "has none: use layout data"),
    ],
)
def test_a_mistake_gets_one_sentence(changed, sentence):
    with pytest.raises(UserError, match=sentence):
        scaling_report.run_scaling(flags(**changed), SILENT)


def test_the_page_says_what_was_given_and_writes_all(tmp_path, capsys):
    files = {"json": str(tmp_path / "a.json"), "plot": str(tmp_path / "a.png")}
    with Terminal() as terminal:
        scaling_report.run_scaling(flags(**files), terminal)
    text = capsys.readouterr().out
    assert text.startswith("Assumptions\n  100 images/s of net145's training step in float32")
    assert "given, not measured" in text
    assert "450 GB/s each way for a device (NVIDIA's H100 SXM data sheet" in text
    rows = [line.split() for line in text.splitlines() if line.split()[:1] == ["2"]]
    assert [row[1] for row in rows] == ["data", "towers", "hybrid"]
    assert rows[0][3:5] == ["243.9", "0.0"]
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["measured"] is None
    first = content["predictions"][0]
    assert first["efficiency_after"] == pytest.approx(1)
    assert first["after"] == pytest.approx(1.28)
    assert links.LINKS["nvlink4"] == Link(**content["cluster"]["inside"])
    with Image.open(files["plot"]) as picture:
        assert picture.width > 900
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    for colour in scaling_report.COLOURS.values():
        assert tuple(bytes.fromhex(colour[1:])) in colours


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_real_step_is_timed(dtype):
    found = step_time.measure_steps(
        miniature.NARROW["quickstart"], batch_size=8, dtype=dtype, steps=3, terminal=SILENT
    )  # fmt: skip
    assert len(found["seconds"]) == 3
    median = sorted(found["seconds"])[1]
    assert found["images_per_second"] == 8 / median


@pytest.mark.slow
def test_the_command_measures_by_default():
    words = ["scaling", "--network=quickstart", "--batch_size=8", "--steps=2", "--devices=1,2,4"]
    done = subprocess.run(
        [sys.executable, "-m", "alexnet_jax", "benchmark", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "measured on one device here: median of 2 steps of 8 images" in done.stdout
    assert "16 of 16 images" in done.stdout
