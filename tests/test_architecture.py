"""The walls of the house: imports run one way, heavy libraries stay in place, files are short."""

import ast
import functools
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "alexnet_jax"

# The rooms from top to bottom: a room may import those on the lines below its own.
FLOORS = [
    {"benchmark", "reproduce"},
    {"tools", "main", "configs"},
    {"training"},
    {"kernels", "weights"},
    {"model", "data"},
    {"parallel"},
    {"runtime"},
]
MOST_ROOMS, MOST_FLOORS, MOST_ARROWS = 14, 7, 40
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 300, 60
# The hall: __init__ is the library's surface, __main__ the table of commands; both may import all.
HALL = {"__init__", "__main__"}

# Heavy or optional libraries, and the only files that import them, inside of functions.
OWNERS = {
    "orbax": {"training/checkpoint.py"},
    "clu": {"training/metric_writers.py"},
    "tensorboard": {"training/metric_writers.py"},
    "tensorflow": {"runtime/optional_imports.py"},
    "tensorflow_datasets": {"data/metadata.py", "data/tf_example.py", "data/origins/tfds.py"},
    "array_record": {"data/prepared.py", "data/shards.py", "data/origins/shards.py"},
    "pyarrow": {"data/origins/parquet.py", "tools/features/files.py"},
    "simplejpeg": {"data/prepared.py"},
    "torch": {
        "benchmark/host_input.py",
        "benchmark/torch_contest.py",
        "benchmark/torch_peer.py",
        "tools/convert/proof.py",
        "weights/state_dict.py",
        "weights/torch_state.py",
    },
    "onnx": {
        "tools/convert/proof.py",
        "weights/onnx_graph.py",
        "weights/onnx_model.py",
        "weights/onnx_reader.py",
    },
}


@functools.cache
def sources():
    """[(name in the package or below the root, text, syntax tree)] of every source file."""
    files = [(path.relative_to(PACKAGE), path) for path in sorted(PACKAGE.rglob("*.py"))]
    files += [(path.relative_to(ROOT), path) for path in sorted((ROOT / "configs").rglob("*.py"))]
    texts = [(name.as_posix(), path.read_text()) for name, path in files]
    return [(name, text, ast.parse(text)) for name, text in texts]


@functools.cache
def imports():
    """[(file, imported dotted name, whether at the top of the file)] of every import."""
    result = []
    for name, _, tree in sources():
        top = set(map(id, tree.body))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                dotted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name} has a relative import"
                dotted = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            result += [(name, each, id(node) in top) for each in dotted]
    return result


def room(name):
    return name.split("/")[0].removesuffix(".py")


def imported_room(dotted):
    """The room of this project that an import leads to, None for other libraries."""
    parts = dotted.split(".")
    if parts[0] == "configs":
        return "configs"
    names = set().union(*FLOORS)
    return parts[1] if parts[0] == "alexnet_jax" and parts[1:2] and parts[1] in names else None


def arrows():
    """{(room, room that it imports): an import as an example}."""
    pairs = {}
    for name, dotted, _ in imports():
        there = imported_room(dotted)
        if there and room(name) not in HALL | {there}:
            pairs.setdefault((room(name), there), f"{name} imports {dotted}")
    return pairs


def test_every_room_is_in_the_table():
    rooms = {room(name) for name, _, _ in sources()} - HALL
    assert rooms == set().union(*FLOORS)
    assert len(rooms) <= MOST_ROOMS
    assert len(FLOORS) <= MOST_FLOORS
    assert sum(map(len, FLOORS)) == len(rooms), "a room stands on one floor alone"


def test_nothing_but_three_files_lies_in_the_hall():
    loose = {path.stem for path in PACKAGE.glob("*.py")}
    assert loose <= HALL | {"main"}


def test_imports_run_downwards():
    """So there is no circle either."""
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    pairs = arrows()
    upward = [example for (here, there), example in pairs.items() if floor[there] <= floor[here]]
    assert not upward
    assert len(pairs) <= MOST_ARROWS, sorted(pairs)


def test_the_library_imports_no_config():
    """It would not work beside another project with a folder of this name."""
    assert not [f"{name} imports {dotted}" for name, dotted, _ in imports()
                if dotted.split(".")[0] == "configs" and room(name) != "configs"]  # fmt: skip


def test_no_two_files_import_each_other():
    edges = set()
    for name, dotted, _ in imports():
        if dotted.startswith("alexnet_jax."):
            parts = dotted.split(".")[1:]
            while parts and not (PACKAGE / ("/".join(parts) + ".py")).exists():
                parts.pop()
            if parts:
                edges.add((name.removesuffix(".py"), "/".join(parts)))
    assert not [edge for edge in edges if edge[::-1] in edges]


def test_files_and_functions_are_short():
    long = []
    for name, text, tree in sources():
        lines = len(text.splitlines())
        if lines > MOST_LINES_OF_A_FILE:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{name}: {node.name} has {lines} lines")
    assert not long


def test_heavy_libraries_stay_in_their_rooms():
    for name, dotted, top in imports():
        library = dotted.split(".")[0]
        if library in OWNERS:
            assert name in OWNERS[library], f"{name} imports {dotted}"
            assert not top or library == "orbax", f"{name} imports {dotted} at its top"
