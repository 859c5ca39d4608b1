"""Every name in docs/paper.md, docs/history.md and docs/lecture.md exists; unknown forms fail."""

import ast
import functools
import pathlib
import re
import shlex

import pytest

from alexnet_jax.__main__ import COMMANDS
from alexnet_jax.model.networks import NETWORKS
from alexnet_jax.reproduce import experiments, plan
from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import config_check, defaults
from alexnet_jax.training import plan as configuration
from tests.training.test_plan import load

ROOT = pathlib.Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "docs" / name for name in ("paper.md", "history.md", "lecture.md")]
# What stands for something that the reader has.
PLACEHOLDERS = {"P", "SET", "RUN", "DIR"}


@functools.cache
def symbols(path):
    """What a file defines: functions, values, classes, their methods and fields, inherited too."""
    found = set()

    def gather(body, prefix):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                inherited = [name.split(".", 1) for name in found if name.split(".")[0] in bases]
                found.update(".".join((prefix + node.name, *rest)) for _, *rest in inherited)
                gather(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
            found.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    gather(ast.parse(path.read_text()).body, "")
    return found


def anchors(path):
    """The places of a document that links may name, as GitHub makes them of its headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def check_file(path, anchor):
    assert path.exists(), f"there is no {path}"
    if anchor:
        assert anchor in anchors(path), f"{path} has no heading #{anchor}"


def check_field(text):
    """FIELD or FIELD=VALUE of the config, a value that its check accepts."""
    config = defaults.get_config()
    field, _, value = text.partition("=")
    assert field in fields(config), f"training/defaults.py has no field {field}"
    if value:
        number = re.fullmatch(r"[\d.]+|True|False|None|[\"'(].*", value)
        value = ast.literal_eval(value) if number else value
        if field == "data.units":  # goes with one kind of mean alone
            config.data.mean = {"min_max": "none", "standardise": "channel"}.get(value, "image")
        config.update_from_flattened_dict({field: value})
        config_check.check_config(config, configuration.architecture_of(config), num_devices=2)


def fields(config, prefix=""):
    """Dotted names of all fields and sections."""
    for name in config:
        yield prefix + name
        if hasattr(config[name], "items"):
            yield from fields(config[name], f"{prefix}{name}.")


def check_config(text):
    file, _, argument = text.partition(":")
    assert (ROOT / file).is_file(), f"there is no {file}"
    load(pathlib.Path(file).stem, argument)


def sources_of(command):
    """The files in which a command's flags and pages stand."""
    assert command in COMMANDS, f"there is no command {command}"
    file = ROOT / (COMMANDS[command].module.replace(".", "/") + ".py")
    return file.parent.glob("*.py") if file.name == "command.py" else [file]


def check_command(words):
    """`alexnet_jax COMMAND` or `alexnet_jax.main`: its pages and flags, the config, its fields."""
    if words[0] == "alexnet_jax.main":
        words = ["alexnet_jax", "train", *words[1:]]
    assert words[0] == "alexnet_jax", f"{words[0]} is no program: expected alexnet_jax COMMAND"
    _, command, *words = words
    package = ROOT / "alexnet_jax"
    shared = [package / "parallel/launch.py", *(package / "runtime").glob("*.py")]
    text = "\n".join(source.read_text() for source in [*shared, *sources_of(command)])
    for word in words:
        flag, _, value = word.removeprefix("--").partition("=")
        if flag == "config":
            check_config(value)
        elif flag.startswith("config."):
            check_field(word.removeprefix("--config."))
        elif flag == "only":
            plan.selected_runs(experiments.find_experiment(words[0]), [value])
        elif word.startswith("--"):
            assert re.search(rf"""["'](--)?{flag}["']""", text), f"{command} has no flag --{flag}"
        elif command == "model":
            assert word in NETWORKS or word.endswith(".png"), f"there is no network {word}"
        elif word.islower() and "." not in word:
            assert f'"{word}"' in text, f"{command} has no page {word}"


def check_token(token):
    """One piece of code in a document, by its form."""
    if match := re.fullmatch(r"((?:\w+/)*test_\w+\.py)::(test_\w+)", token):
        file = ROOT / "tests" / match[1]
        assert file.exists(), f"there is no {file}"
        assert match[2] in symbols(file), f"{file} has no {match[2]}"
    elif match := re.fullmatch(r"((?:\w+/)*\w+\.py): ([\w.]+)", token):
        files = [root / match[1] for root in (ROOT / "alexnet_jax", ROOT)]
        found = [file for file in files if file.exists()]
        assert found, f"there is no {match[1]}"
        assert match[2] in symbols(found[0]), f"{match[1]} has no {match[2]}"
    elif match := re.fullmatch(r"(?:P|python -m|\.venv/bin/python -m) (alexnet_jax[ .].*)", token):
        check_command(shlex.split(match[1]))
    elif re.fullmatch(r"configs/\w+\.py(:[\w,]+)?", token):
        check_config(token)
    elif match := re.fullmatch(r"(?:docs/)?([\w-]+\.(?:md|png|svg|ipynb))(?:#([\w-]+))?", token):
        check_file(ROOT / "docs" / match[1], match[2])
    elif re.fullmatch(r"(tests|alexnet_jax)/[\w/.]*", token):
        assert (ROOT / token).exists(), f"there is no {token}"
    elif re.fullmatch(r"(--config\.)?([a-z_0-9]+(\.[a-z_0-9]+)+(=.*)?|\w+=.*)", token):
        check_field(token.removeprefix("--config."))
    else:
        assert token in PLACEHOLDERS | {"python -m"} or token in NETWORKS, f"what is `{token}`?"


@functools.cache
def tokens(document):
    """Code in backticks and indented commands, and the targets of links, as (form, text)."""
    text = document.read_text()
    found = [("code", token) for token in re.findall(r"`([^`]+)`", text)]
    commands = re.findall(r"^    ((?:P|\.venv/bin/python -m) .*?)(?:  +#.*)?$", text, re.MULTILINE)
    found += [("code", command) for command in commands]
    links = re.findall(r"\]\(([^):]+)\)", text)
    return found + [("link", link) for link in links]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_name_exists(document):
    found = tokens(document)
    assert len(found) > 5
    for form, text in found:
        if form == "link":
            name, _, anchor = text.partition("#")
            check_file((document.parent / name) if name else document, anchor)
        else:
            check_token(text)


@pytest.mark.parametrize(
    "wrong",
    [
        "model/layers.py: ReLu",
        "model/layer.py: ReLU",
        "training/train_step.py: Steps.teach",
        "model/test_layers.py::test_pooling",
        "test_layers.py::test_pooling_equals_loops",
        "model/test_layer.py::test_pooling_equals_loops",
        "configs/imagnet.py",
        "configs/imagenet.py:papers",
        "data.means",
        'data.mean="picture"',
        "net144",
        "results.md#nowhere",
        "docs/net146.png",
        "P alexnet_jax.main --config=configs/imagenet.py:papers",
        "P alexnet_jax.main --config=configs/imagenet.py --config.data.noise=0",
        "P alexnet_jax.main --config=configs/imagenet.py --config.data.mean=picture",
        "P alexnet_jax evaluate --workdirs=RUN",
        "P alexnet_jax visualize filter",
        "P alexnet_jax reproduce history --only=towers2",
        "P alexnet_jax teach",
        "P alexnet_jax.evaluate --workdir=RUN",
        "P alexnet_jax model net144",
    ],
)
def test_a_wrong_name_is_found(wrong):
    with pytest.raises((AssertionError, ValueError, UserError)):
        check_token(wrong)


def test_the_whole_paper_is_there():
    text = (ROOT / "docs/paper.md").read_text()
    parts = [f"\n## {section} " for section in range(1, 8)]
    parts += [
        f"| {section} " for section in ("3.1", "3.2", "3.3", "3.4", "3.5", "4.1", "4.2", "6.1")
    ]
    parts += ["Figure 1", "Figure 2", "Figure 3", "Figure 4", "Table 1", "Table 2"]
    parts += [f"\n| {footnote}: " for footnote in range(1, 6)]
    assert [part for part in parts if part not in text] == []
    history = (ROOT / "docs/history.md").read_text()
    assert re.findall(r"^\| (\d+) \|", history, re.MULTILINE) == [str(n) for n in range(1, 13)]
