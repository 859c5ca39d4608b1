"""The walls of the house: imports run one way, heavy libraries stay in their rooms."""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent / "alexnet_jax"

# A room may import those that stand below it; rooms on one line do not see each other.
STOREYS = [
    {"main", "benchmark", "reproduce"},
    {"train"},
    {"milestone"},
    {"evaluate", "progress"},
    {"convert", "neighbours", "predict"},
    {"features", "visualize"},
    {"run"},
    {"inheritance"},
    {"opening"},
    {"config"},
    {"rates"},
    {"command", "training"},
    {"stablehlo"},
    {"inference"},
    {"weights"},
    {"data", "model", "parallel"},
    {"errors", "provenance", "terminal"},
]
OWNERS = {
    "orbax": {"training/checkpoint.py"},
    "clu": {"training/metrics.py"},
    "tensorflow": {"data/stream.py"},
    "tensorflow_datasets": {"data/metadata.py", "data/examples.py", "data/origins/tfds.py"},
    "array_record": {"data/prepared.py", "data/shards.py", "data/origins/shards.py"},
    "pyarrow": {"data/origins/parquet.py", "features/files.py"},
    "simplejpeg": {"data/prepared.py"},
    "torch": {
        "benchmark/host_input.py",
        "benchmark/torch_contest.py",
        "benchmark/torch_peer.py",
        "convert/proof.py",
        "weights/state_dict.py",
        "weights/torch_state.py",
    },
    "onnx": {
        "convert/proof.py",
        "weights/onnx_graph.py",
        "weights/onnx_model.py",
        "weights/onnx_reader.py",
    },
}


def room(name):
    return name.split("/")[0].removesuffix(".py")


def imports():
    """(file, imported dotted name, whether at the top of the file) of every import."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            top = node in tree.body
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield name, alias.name, top
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield name, f"{node.module}.{alias.name}", top


def own(dotted):
    return dotted.split(".")[1] if dotted.startswith("alexnet_jax.") else None


def test_every_room_has_its_storey():
    rooms = {room(name) for name, _, _ in imports()} - {"__init__"}
    assert rooms == set().union(*STOREYS) - {"errors"}


def test_imports_run_downwards():
    storey = {name: level for level, names in enumerate(STOREYS) for name in names}
    for name, dotted, _ in imports():
        there = own(dotted)
        if there and room(name) != "__init__" and there != room(name):
            assert storey[there] > storey[room(name)], f"{name} imports {dotted}"


def test_no_two_files_import_each_other():
    edges = set()
    for name, dotted, _ in imports():
        if dotted.startswith("alexnet_jax."):
            parts = dotted.split(".")[1:]
            while parts and not (ROOT / ("/".join(parts) + ".py")).exists():
                parts.pop()
            if parts:
                edges.add((name.removesuffix(".py"), "/".join(parts)))
    assert not [edge for edge in edges if edge[::-1] in edges]


def test_heavy_libraries_stay_in_their_rooms():
    for name, dotted, top in imports():
        library = dotted.split(".")[0]
        if library in OWNERS:
            assert name in OWNERS[library], f"{name} imports {dotted}"
            assert not top or library == "orbax", f"{name} imports {dotted} at its top"


def test_the_step_runs_where_tensorflow_is_not_installed():
    code = (
        "import sys; sys.modules['tensorflow'] = None; sys.modules['tensorflow_datasets'] = None\n"
        "import jax\n"
        "from tests import miniature\n"
        "from alexnet_jax.parallel import mesh\n"
        "steps = miniature.make_steps('quickstart', 1, 1)\n"
        "pre = mesh.put_replicated(steps.mesh, miniature.preprocessing_of('quickstart'))\n"
        "batch = miniature.put(steps, *miniature.batch_of('quickstart', 0))\n"
        "print(float(steps.training()(steps.initial_state(), *batch, pre)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 100
