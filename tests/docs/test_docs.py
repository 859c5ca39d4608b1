"""What the documents name exists."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "docs/alexnet.ipynb"]
DOCUMENTS += [*ROOT.glob("launch/*"), *ROOT.glob("configs/*.py")]
# A path is given from the root, or from the package, as in model/layers.py.
FOLDERS = (ROOT, ROOT / "alexnet_jax", ROOT / "tests", ROOT / "docs")


def test_each_test_that_is_named_exists_and_is_as_slow_as_is_said():
    text = (ROOT / "docs/reliability.md").read_text()
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)::(test_\w+)`(\*?)", text)
    assert len(named) > 50
    for file, test, star in named:
        source = (ROOT / "tests" / file).read_text()
        found = re.search(rf"\n((?:@[^\n]*\n(?: [^\n]*\n|\)[^\n]*\n)*)*)def {test}\(", source)
        assert found, f"{file} has no {test}"
        assert ("@pytest.mark.slow\n" in found[1]) == bool(star), f"{file}::{test}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_file_and_module_that_is_named_exists(document):
    text = document.read_text()
    for path in re.findall(r"(?<![\w/.:$-])(?:\w+/)+[\w.]+\.(?:py|sh|sbatch|yaml|ipynb)\b", text):
        placeholder = pathlib.Path(path).stem.isupper()  # configs/NAME.py
        assert placeholder or any((folder / path).exists() for folder in FOLDERS), path
    for module in re.findall(r"\balexnet_jax(?:\.[a-z_0-9]+)+", text):
        parent = module.rpartition(".")[0]
        names = (module,) if parent == "alexnet_jax" else (parent, module)  # it may be a function
        assert any(map(importlib.util.find_spec, names)), module
    # Commands are words of `python -m alexnet_jax`; training alone has a module of its own too.
    assert set(re.findall(r"(?:-m|\bP)\s+alexnet_jax\.(\w+)", text)) <= {"main"}
