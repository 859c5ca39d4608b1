"""The form of all scripts of launch/: bash reads them, shellcheck has nothing to say."""

import os
import re
import shutil
import subprocess

import pytest

from tests.support.launchers import ROOT

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in [*(ROOT / "launch").glob("*.sh"), ROOT / "launch/slurm.sbatch"]
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse_and_say_what_to_edit(script):
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)
    if script != "launch/common.sh":
        assert os.access(ROOT / script, os.X_OK)
    head = (ROOT / script).read_text().split("set -u")[0]
    assert re.search("what to edit|nothing to edit|source it", head, re.I)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    done = subprocess.run(
        ["shellcheck", "--external-sources", "--severity=warning", *SCRIPTS],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
