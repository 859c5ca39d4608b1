"""The table of commands, each --help without heavy imports, and answers to wrong flags."""

import json
import subprocess
import sys

import pytest

from alexnet_jax import __main__ as program
from alexnet_jax.runtime import cli, command_flags
from alexnet_jax.runtime.errors import UserError
from tests.support import commands

HEAVY = ("jax", "jaxlib", "numpy", "flax", "optax", "orbax", "tensorflow", "clu", "torch", "PIL",
         "scipy", "matplotlib", "etils")  # fmt: skip
PAGES = {
    "visualize": ("filters", "curves", "activations", "augmentation", "confusion", "saliency",
                  "maximise"),
    "benchmark": ("input", "scaling", "step", "train", "gpu"),
}  # fmt: skip
HELPS = [[], *([name] for name in program.COMMANDS),
         *([name, page] for name, pages in PAGES.items() for page in pages)]  # fmt: skip
# All in one process, since each start of Python costs more than what is looked at.
SCRIPT = """
import contextlib, io, json, sys
from alexnet_jax import __main__ as program
results = []
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = [*words, "--help"]
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            program.main()
        except SystemExit as end:
            assert end.code == 0, words
    heavy = [name for name in HEAVY if name in sys.modules]
    results.append([text.getvalue(), heavy])
print(json.dumps(results))
"""


def test_each_help_answers_before_anything_heavy_is_imported():
    script = f"HEAVY = {HEAVY}\n{SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(HELPS)], cwd=commands.ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words, (text, heavy) in zip(HELPS, json.loads(done.stdout), strict=True):
        assert not heavy, f"{words} --help imports {heavy}"
        assert "alexnet_jax" in text or words[0] in text
        expected = program.COMMANDS if not words else PAGES.get(" ".join(words), ["--"])
        assert all(name in text for name in expected), words


def test_the_table_lists_all_commands():
    text, errors = commands.run("--help")
    assert not errors
    for name, command in program.COMMANDS.items():
        assert f"\n  {name} " in text
        assert command.help in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evalute"], "no command 'evalute': did you mean evaluate?"),
        (["benchmark", "steps"], "no benchmark 'steps': did you mean step?"),
        (["predict", "I", "--checkpoint=W"], "no flag --checkpoint: did you mean --weights?"),
        (["predict", "I", "--batch=3"], "no flag --batch: did you mean --batch_size?"),
        (["features", "--workdirs=R"], "no flag --workdirs: did you mean --workdir?"),
        (["evaluate", "--weights=1,2"], "--member_weights=0.3,0.7 weighs several runs"),
        (["convert", "--weights=W"], "name the file of weights without a flag"),
        (["prepare", "--workers=2"], "no flag --workers: did you mean --num_workers?"),
        (["prepare", "--size=64"], "no flag --size: did you mean --image_size?"),
        (["prepare"], "Add --source=KIND:WHERE"),
        (["model", "net145", "--classes=3"], "no flag --classes: did you mean --num_classes?"),
        (["benchmark", "step", "--no-by_layer"], "did you mean --noby_layer?"),
        (["reproduce", "--seed=1"], "no flag --seed: did you mean --seeds?"),
        (["train", "--lr=0.1"], "no flag --lr: did you mean --config.optimizer.learning_rate?"),
        (["train", "--config.optimizer.wd=0"], "did you mean --config.optimizer.weight_decay?"),
        (["train", "--batch_size=3"], "did you mean --config.batch_size?"),
        (["neighbours", "--zzz=1"], "no flag --zzz: --help lists all flags."),
    ],
)
def test_a_mistake_is_answered_with_what_is_meant(monkeypatch, capsys, words, sentence):
    monkeypatch.setattr(sys, "argv", ["alexnet_jax", *words])
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert sentence in errors


def define(flags):
    flags.integer("count", 3, "A number.", at_least=1)
    flags.switch("quick", False, "A switch.")
    flags.strings("names", [], "Some names.")
    flags.choice("kind", "a", ["a", "b"], "A kind.")


def test_flags_and_other_words_may_be_mixed():
    words = ["x", "one", "--count=4", "two", "--quick", "--names", "a,b"]
    args, others = command_flags.parse(words, "usage", define, arguments=True)
    assert vars(args) == {"count": 4, "quick": True, "names": ["a", "b"], "kind": "a"}
    assert others == ["one", "two"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--count=0"], "--count=0"),
        (["--count=many"], "--count=many"),
        (["--kind=c"], "should be one of <a|b>"),
        (["word"], "'word' was not understood"),
        (["--cont=1"], "did you mean --count?"),
    ],
)
def test_a_wrong_value_is_named(words, sentence):
    with pytest.raises(UserError, match=".") as error:
        command_flags.parse(["x", *words], "usage", define)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("library", "line"),
    [("matplotlib.pyplot", 'pip install "alexnet-jax[plot]"'), ("pandas", "pip install pandas")],
)
def test_a_library_that_is_missing_is_named_with_its_pip_line(capsys, library, line):
    def draw():
        raise ModuleNotFoundError(f"No module named '{library}'", name=library)

    with pytest.raises(SystemExit) as end:
        cli.answer(draw)
    assert end.value.code == 2
    name = library.partition(".")[0]
    sentence = f"error: This needs the library {name}, which is not installed: {line}.\n"
    assert capsys.readouterr().err == sentence


def test_a_module_of_this_project_that_is_missing_is_no_mistake_of_the_user():
    def fail():
        raise ModuleNotFoundError("No module named 'alexnet_jax.x'", name="alexnet_jax.x")

    with pytest.raises(ModuleNotFoundError):
        cli.answer(fail)


def test_windows_is_refused_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli.sys, "platform", "win32")
    monkeypatch.setattr(cli, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end:
        cli.answer(lambda: print("ran"))
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert "ran" not in shown.out
    assert "Windows is not supported, since TensorFlow has no wheel there: use WSL." in shown.err
