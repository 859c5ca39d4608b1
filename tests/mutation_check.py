"""Puts small faults into the package, one at a time, and tells which of them the tests notice.

    python tests/mutation_check.py [--root DIR] [--json FILE] [--only TEXT]

Each fault of support/mutants.py goes into a copy of the tree, where its tests run (those that are
not slow) until one fails. First they all run without a fault, since tests that fail anyway would
notice everything. Programs that were compiled for one fault are there for the next ones.

Results are "caught", "survived", "timeout" (it hung, which is noticed too) and "stale": its text is
no longer there once, so that the table needs another. Exit code 1 if any survived or is stale.
"""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

if __name__ == "__main__":  # started as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tests.support.mutants import MUTANTS, Mutant

LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", "runs", "shared"
)
LONGEST = 900  # seconds for one fault


def copy_of(root: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of the tree without its environment, history and caches."""
    return pathlib.Path(shutil.copytree(root, folder / "tree", ignore=LEFT_OUT, symlinks=True))


def outcome(tree: pathlib.Path, compiled: pathlib.Path, tests: list[str]) -> tuple[str, str]:
    """("caught", the first failing test), ("survived", "") or ("timeout", "") of a tree's tests."""
    environment = os.environ | {
        "TESTS_COMPILED": str(compiled),
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",  # a fault may be put in and out within a second
    }
    options = "-x -q -m 'not slow' -p no:cacheprovider --no-header --tb=no --durations=0"
    command = [sys.executable, "-m", "pytest", *shlex.split(options)]
    command += [f"tests/{name}" for name in tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LONGEST,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "timeout", ""
    if done.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return "survived", ""
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if not lines:  # not one test ran
        lines = (done.stdout + done.stderr).strip().splitlines()[-1:]
    return "caught", lines[0][:200]


def run_mutant(mutant: Mutant, tree: pathlib.Path, compiled: pathlib.Path) -> dict:
    """What became of one fault; the tree is as before afterwards."""
    file = tree / "alexnet_jax" / mutant.file
    text = file.read_text() if file.exists() else ""
    began = time.monotonic()
    if text.count(mutant.old) != 1:
        result, by = "stale", ""
    else:
        try:
            file.write_text(text.replace(mutant.old, mutant.new))
            result, by = outcome(tree, compiled, mutant.tests.split())
        finally:
            file.write_text(text)
    seconds = round(time.monotonic() - began, 1)
    return {"name": mutant.name, "result": result, "by": by, "seconds": seconds}


def unmutated_failures(mutants: list[Mutant], tree: pathlib.Path, compiled: pathlib.Path) -> str:
    """The first test that fails without a fault; empty if none does."""
    names = dict.fromkeys(name for mutant in mutants for name in mutant.tests.split())
    for name in names:
        result, by = outcome(tree, compiled, [name])
        print(f"{'passes' if result == 'survived' else result}: {name} {by}", flush=True)
        if result != "survived":
            return by or name
    return ""


def check(mutants: list[Mutant], root: pathlib.Path, results_file: pathlib.Path | None) -> list:
    """Results of all mutants; written to the file after each one."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree, compiled = copy_of(root, pathlib.Path(folder)), pathlib.Path(folder, "compiled")
        compiled.mkdir()
        failure = unmutated_failures(mutants, tree, compiled)
        if failure:
            sys.exit(f"Without any fault this fails: {failure}. Mend it first.")
        results = []
        for mutant in mutants:
            results.append(run_mutant(mutant, tree, compiled))
            found = results[-1]
            print(f"{found['result']:<9}{found['seconds']:>6.0f} s  {mutant.name}  {found['by']}",
                  flush=True)  # fmt: skip
            if results_file is not None:
                results_file.write_text(json.dumps(results, indent=1))
    return results


def main() -> None:
    """Run the chosen mutants and count."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, default=".", help="the checkout (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="where the results are written")
    parser.add_argument("--only", default="", help="mutants whose name holds this text")
    flags = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if flags.only in mutant.name]
    results = check(chosen, flags.root.resolve(), flags.json)
    outcomes = [result["result"] for result in results]
    print(", ".join(f"{word}: {outcomes.count(word)}" for word in dict.fromkeys(outcomes)))
    sys.exit(int(not {"survived", "stale"}.isdisjoint(outcomes)))


if __name__ == "__main__":
    main()
