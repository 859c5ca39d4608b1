"""The project's configs are found by name from any folder, and a user's own files come first."""

import pytest

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.training import config_files


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder with a configs/ of another project, which has no quickstart.py."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/own.py").write_text("")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("value", ["quickstart", "quickstart.py", "configs/quickstart.py"])
def test_a_name_stands_for_the_projects_config(value):
    expected = str(config_files.folder() / "quickstart.py")
    assert config_files.find(value) == expected
    assert config_files.find(f"{value}:smoke") == f"{expected}:smoke"
    assert config_files.with_files(["x", f"--config={value}", "--config.seed=1"]) == [
        "x", f"--config={expected}", "--config.seed=1"
    ]  # fmt: skip
    assert config_files.with_files(["x", "-config", value, ""]) == ["x", f"-config={expected}", ""]


def test_a_file_comes_first(tmp_path):
    assert config_files.find("configs/own.py:fast") == "configs/own.py:fast"
    (tmp_path / "quickstart.py").write_text("")
    assert config_files.find("quickstart.py") == "quickstart.py"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("quickstat", "no config file 'quickstat': did you mean quickstart"),
        ("configs/imagnet.py:smoke", "no config file 'configs/imagnet.py': did you mean imagenet"),
        ("elsewhere/quickstart.py", "no config file 'elsewhere/quickstart.py'"),
    ],
)
def test_what_there_is_not_is_answered_with_the_nearest_name(value, sentence):
    with pytest.raises(UserError, match=sentence):
        config_files.find(value)


def test_a_config_may_begin_with_another():
    assert config_files.load("imagenet", "smoke").name == "imagenet-smoke"
    assert config_files.load("imagenet_fast").batch_size == 1024
