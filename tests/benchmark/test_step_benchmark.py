"""The benchmarks step, train and gpu: what they count and write, never how long."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.benchmark import (
    by_layer,
    flops,
    gpu,
    kernel_choices,
    limits,
    machine_peak,
    step_case,
    step_command,
    step_report,
    step_time,
    turns,
)
from alexnet_jax.benchmark.gpu import Case
from alexnet_jax.model.architecture import Architecture
from alexnet_jax.model.layers import Convolution, Dense, Output, ReLU
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.run_records import read_records
from alexnet_jax.runtime.terminal import Terminal
from tests.support import commands

# Without padding, so that XLA counts as many products as the arithmetic does.
PLAIN = Architecture(
    "plain", 8, 3, 2,
    (Convolution("conv1", 8, size=3, stride=2, floor=True), ReLU(), Dense("fc", 12), Output("out")),
    num_classes=5,
)  # fmt: skip
KINDS = {"forward": "forward", "weight_gradient": "weight gradient", "input_gradient": "input gradient"}  # noqa: E501  # fmt: skip
ROWS, SILENT = 16, Terminal(speaks=False)


def test_operations_of_a_step_by_hand():
    """Net 145: 724,406,816 multiply-adds forward, of which conv1 has 55 x 55 x 96 x 11 x 11 x 3."""
    image = 2 * (3 * 724_406_816 - 55 * 55 * 96 * 11 * 11 * 3)
    assert flops.training_flops(NETWORKS["net145"], 1000) == image
    assert flops.forward_flops(NETWORKS["net145"], 1000) == 2 * 724_406_816


def test_a_low_resolution_view_has_no_input_gradient():
    (conv1, conv2) = flops.layer_flops(NETWORKS["net120_2012"], 1000)[:2]
    assert conv1.input_gradient == 0
    side = NETWORKS["net120_2012"].layers[4].output((27, 27, 32), 2)[0]
    assert conv2.forward - conv2.input_gradient == 2 * side**2 * 256 * 5 * 5 * 3


@pytest.fixture(scope="module")
def plain_step():
    return step_time.compile_step(PLAIN, batch_size=ROWS, dtype="float32")


def test_parts_count_what_xla_counts(plain_step, monkeypatch):
    """Every product, compiled alone, has the operations that the arithmetic says, and no more.

    XLA also counts additions of biases and of the towers' gradients, one a number.
    """
    lowered = []

    def kept(function, *arguments):
        lowered.append(function.lower(*arguments).compile().cost_analysis())
        return lambda repetitions: None

    monkeypatch.setattr(machine_peak, "repeat", kept)
    parts = list(by_layer._parts(plain_step))
    counted = {part.name: cost for part, cost in zip(parts, lowered, strict=False)}
    expected = {
        f"{one.layer} {KINDS[kind]}": ROWS * getattr(one, kind)
        for one in flops.layer_flops(PLAIN, PLAIN.num_classes)
        for kind in KINDS
        if getattr(one, kind)
    }
    assert {part.name: part.operations for part in parts if part.operations} == expected
    assert len(expected) == 8
    for name, operations in expected.items():
        # XLA counts the padding of a convolution's input gradient, where there is one, as nothing.
        assert operations <= counted[name]["flops"] < 1.1 * operations, name
    update = parts[-1]
    assert update.name == "update"
    numbers = sum(math.prod(s) for k in PLAIN.parameter_shapes(5).values() for s in k.values())
    assert update.bytes == 5 * 4 * numbers


def test_what_each_part_computes_is_what_the_network_does(plain_step):
    """The activations that the parts hand on end in the network's own logits."""
    from alexnet_jax.model import alexnet

    step, architecture = plain_step.steps, NETWORKS["bvlc_alexnet"].with_width(1 / 32)
    parameters = alexnet.draw_parameters(architecture, 5, jax.random.key(0))
    graph = alexnet.graph_of(architecture, 5, operations=step.operations)
    image = 50 * jax.random.normal(jax.random.key(1), (1, 227, 227, 3))

    @jax.jit
    def both(parameters, image):
        towers, shared = [image], True
        for layer in architecture.without_dropout().layers:
            function = by_layer._function(layer, 2, shared, step.dtype, step.operations)
            towers = function(parameters.get(getattr(layer, "name", ""), {}), towers, image)
            shared = by_layer._is_shared(layer, shared)
        return towers, alexnet.apply(graph, parameters, image)

    found, expected = both(parameters, image)
    assert jnp.abs(expected).max() > 1e-5
    assert jnp.allclose(found, expected, rtol=1e-5)


def test_contestants_take_turns():
    calls = []
    contestants = {name: lambda n, name=name: calls.append((name, n)) for name in "ab"}
    seconds = turns.take_turns(contestants, 3)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    # One that does nothing is repeated as often as is allowed, but not at a turn's start.
    warm, often = turns.WARMING, turns.LONGEST_SAMPLE
    assert calls[4:] == 3 * [("a", warm), ("a", often), ("b", warm), ("b", often)]


def test_spread():
    found = turns.summarize_seconds([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (found["median"], found["least"], found["quartiles"]) == (3.0, 1.0, [2.0, 4.0])


def parts(**shares):
    rows = [
        {"part": name, "seconds": seconds, "operations": operations, "bytes": 10,
         "share": share, "of": "matrix product" if operations else "copy"}
        for name, (seconds, operations, share) in shares.items()
    ]  # fmt: skip
    total = sum(row["seconds"] for row in rows)
    return {"parts": rows, "sum_seconds": total, "step_seconds": 0.8}


def test_the_limit_is_told_from_the_numbers():
    found = {"training": {"share_of_peak": 0.71}}
    assert limits.limits_sentence(found).startswith(
        "Bound by products: at the measured peak they alone would take 71% of the step."
    )
    found["by_layer"] = parts(slow=(0.04, 100, 0.5), good=(0.04, 100, 0.9), norm=(0.02, 0, 0.6))
    text = limits.limits_sentence(found)
    assert "those without products take 20%" in text
    assert text.endswith(
        "most is lost in slow (40 ms at 50% of matrix product), norm (20 ms at 60% of copy), good "
        "(40 ms at 90% of matrix product)."
    )
    found["training"]["share_of_peak"] = 0.4
    assert limits.limits_sentence(found).startswith("Not bound by products")


def test_small_parts_get_no_line_but_count():
    found = parts(slow=(0.998, 100, 0.5), tiny=(0.001, 0, 0.5), least=(0.001, 0, 0.5))
    lines = step_report.layers_table(found).splitlines()
    assert lines[1].split()[:4] == ["slow", "998.00", "99.8%", "0"]
    assert lines[2].split() == ["2", "parts", "below", "0.5%", "2.00", "0.2%"]
    assert "the whole step beside them took 800.00" in lines[3]


@pytest.mark.slow
@pytest.mark.parametrize("against", [["--kernels=all"], ["--against=torch", "--inference"]])
def test_step_measures_and_writes(tmp_path, against):
    alone = "--kernels=all" in against
    if not alone:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    file = tmp_path / "found.json"
    flags = ["--network=lenet5_28,lenet5_relu_28" if alone else "--network=lenet5_28"]
    flags += ["--width=0.5", "--batch_size=4", "--steps=2", *against]
    text, _ = commands.run("benchmark", "step", *flags, f"--json={file}")
    content = json.loads(file.read_text())
    assert len(content["cases"]) == (2 if alone else 1)
    assert content["versions"]["jax"] == jax.__version__
    assert content["hardware"]["cores"] > 0
    assert content["git_commit"]
    found = content["cases"][0]
    own, small = found["training"], NETWORKS["lenet5_28"].with_width(0.5)
    assert own["images_per_second"] == 4 / own["median"]
    assert own["operations"] == 4 * flops.training_flops(small, 10)
    peak = own["peak"]["operations_per_second"]
    assert own["share_of_peak"] == own["operations"] / own["median"] / peak
    assert math.isfinite(own["last_loss"])
    assert found["memory"]["argument"] > 0
    layers = found["by_layer"]["parts"]
    assert [part["part"] for part in layers][:3] == ["augmentation", "conv1 forward", "conv1 weight gradient"]  # noqa: E501  # fmt: skip
    assert found["by_layer"]["step_seconds"] > 0
    assert found["by_layer"]["sum_seconds"] == sum(part["seconds"] for part in layers)
    assert found["limits"] in text
    assert "Parts measured alone don't add up exactly" in text
    if alone:
        assert tuple(found["kernels"]) == kernel_choices.NAMES
        for row in found["kernels"].values():
            assert row["images_per_second"] == 4 / row["median"]
            assert row["speed"] > 0
        assert "two_steps" in text
        rows = text[text.index("best PyTorch") :].splitlines()[1:3]
        assert [row.split()[:2] for row in rows] == [["lenet5_28", "4"], ["lenet5_relu_28", "4"]]
        return
    assert found["torch_differs_by"]["logits"] < 1e-5
    for phase in ("training", "inference"):
        ways = found[phase]["torch"]
        assert len(ways) + len(found[phase]["torch_left_out"]) == 4
        assert {"torch eager, NCHW", "torch eager, channels_last"} <= set(ways)
        best = min(ways.values(), key=lambda way: way["median"])
        assert found[phase]["ratio"] == best["median"] / found[phase]["median"]
    assert "times the images/s of the best PyTorch here" in text


@pytest.mark.slow
def test_what_pytorch_lacks_is_measured_alone():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    case = step_command.parse_cases(flags(network="cifar_13pct", against="torch", width=0.1))[0]
    found = step_case.measure_case(case, SILENT)
    assert "ratio" not in found["training"]
    text = step_report.case_text(found)
    assert "not compared with PyTorch: its layer local3 has weights of its own" in text


def flags(**changed):
    words = {
        "network": "lenet5", "batch_size": "4", "dtype": "float32", "steps": 2, "against": None,
        "inference": False, "by_layer": False, "width": 1.0, "json": None, "kernels": None,
        "torch_layouts": None, "run": "step",
    }  # fmt: skip
    return type("Flags", (), words | changed)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"network": "lenet6"}, "There is no network 'lenet6': did you mean lenet5"),
        ({"batch_size": "4,x"}, "--batch_size=4,x must be numbers"),
        ({"batch_size": "0"}, "--batch_size and --steps must be at least 1"),
        ({"dtype": "float16"}, "--dtype is 'float16': expected float32 or bfloat16"),
        ({"against": "caffe"}, "--against is 'caffe': expected torch"),
        ({"kernels": "fast"}, "--kernels is 'fast': expected all"),
        ({"torch_layouts": "NHWC"}, "--torch_layouts is 'NHWC': expected NCHW or channels_last"),
        ({"json": "nowhere/a.json"}, "there is no folder nowhere"),
    ],
)
def test_a_mistake_gets_one_sentence(changed, sentence):
    with pytest.raises(UserError, match=sentence):
        step_command.run_step(flags(**changed), SILENT)


def test_all_networks_are_asked_for_without_their_layers():
    asked = step_command.parse_cases(flags(network="all", by_layer=True, batch_size="4,8"))
    assert len(asked) == 2 * len(NETWORKS)
    assert not any(case.by_layer for case in asked)


@pytest.mark.slow
def test_train_measures_the_loop_and_its_step(tmp_path):
    file = tmp_path / "found.json"
    words = ["--config=configs/lenet5.py", "--config.batch_size=8", "--config.data.records=16"]
    words += ["--path=synthetic", "--steps=2", f"--json={file}"]
    text, _ = commands.run("benchmark", "train", *words)
    found = json.loads(file.read_text())
    assert (found["network"], found["batch"], found["data"]) == ("lenet5", 8, "synthetic")
    assert len(found["turns"]) == 5
    for turn in found["turns"]:
        assert 0 <= turn["waiting_for_data"] <= 1
        assert turn["images_per_second"] > 0 < turn["step_alone_images_per_second"]
    assert list(found["seconds_to_first_step"])[-1] == "first step"
    assert "the device waits for data" in text
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_gpu_writes_as_it_goes_and_goes_on(tmp_path, monkeypatch, capfd):
    """A failing case takes no other with it; what is there is not measured again."""
    good = ("--network=lenet5_28", "--width=0.5", "--batch_size=2", "--steps=1", "--noby_layer")
    asked = [Case("good", good), Case("bad", ("--network=none",)), Case("late", good)]
    monkeypatch.setattr(gpu, "gpu_cases", lambda tiny, torch: asked)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    real, done = gpu._measure, []

    def measure(file, case, seconds):
        done.append(case.name)
        if case.name == "late":
            monkeypatch.setattr(gpu.subprocess, "run", run_out_of_time)
        return real(file, case, seconds)

    def run_out_of_time(*_, **__):
        raise gpu.subprocess.TimeoutExpired("step", 1)

    monkeypatch.setattr(gpu, "_measure", measure)
    file = tmp_path / "gpu.jsonl"
    gpu.run_gpu(str(file), 5, tiny=True)
    summary = read_records(file)["summary"]
    assert [row["case"] for row in summary["rows"]] == ["good"]
    assert set(summary["failed"]) == {"bad", "late"}
    row = summary["rows"][0]
    hours = 90 * 1_281_167 / row["images_per_second"] / 3600
    assert row["hours_of_90_epochs"] == pytest.approx(hours)
    assert summary["hardware"]["cores"] > 0
    assert "bad failed with code 2" in capfd.readouterr().out
    done.clear()
    gpu.run_gpu(str(file), 0, tiny=True)
    assert not done
    assert "Missing, since the time was over: bad, late" in capfd.readouterr().out


def test_the_cases_of_a_gpu():
    asked = gpu.gpu_cases(tiny=False, torch=True)
    names = [case.name for case in asked]
    assert len(set(names)) == len(names)
    for dtype in gpu.DTYPES:
        for batch in (128, 512, 1024, 2048):
            words = next(case.words for case in asked if case.name == f"{dtype}-{batch}")
            assert {f"--dtype={dtype}", f"--batch_size={batch}", "--against=torch"} <= set(words)
    flagged = [case.xla_flags for case in asked if case.xla_flags]
    assert flagged == list(gpu.XLA_FLAGS.values())
    assert not any("torch" in word for case in gpu.gpu_cases(True, False) for word in case.words)
    assert set(gpu.ALTERNATIVES) < set(kernel_choices.NAMES)


@pytest.mark.slow
def test_gpu_runs_anywhere_with_tiny_numbers(tmp_path):
    file = tmp_path / "gpu.jsonl"
    commands.run("benchmark", "gpu", f"--json={file}", "--tiny")
    summary = read_records(file)["summary"]
    assert len(summary["rows"]) == len(gpu.gpu_cases(True, False))
    assert not summary["failed"]
    assert not summary["missing"]


def test_torch_is_needed_only_where_it_is_compared(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="The comparison with PyTorch needs the library torch"):
        step_command.run_step(flags(against="torch"), SILENT)
