"""launch/local.sh: what it would do, and that real processes agree with one."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.support.launchers import grace_for

ROOT = pathlib.Path(__file__).parent.parent.parent
LOCAL = str(ROOT / "launch/local.sh")


def launch(*words, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run(
        [LOCAL, *words], cwd=ROOT, env=clean | environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_dry_run_prints_a_command_for_each_process():
    done = launch("3", "python", "-m", "alexnet_jax.main", "--config.name=two words", DRY_RUN="1")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert len(lines) == 3
    for rank, line in enumerate(lines):
        assert f"NUM_PROCESSES=3 PROCESS_ID={rank} 'python'" in line
        assert line.endswith("'--config.name=two words'")
    assert len({line.split()[0] for line in lines}) == 1, "one coordinator for all"


@pytest.mark.parametrize("words", [[], ["2"], ["x", "true"], ["0", "true"]])
def test_wrong_use_is_explained(words):
    done = launch(*words)
    assert done.returncode == 2
    assert "usage: launch/local.sh N COMMAND" in done.stderr


def test_output_is_marked_by_rank_and_all_succeed():
    done = launch("2", "sh", "-c", "echo rank $PROCESS_ID of $NUM_PROCESSES")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["[0] rank 0 of 2", "[1] rank 1 of 2"]


def test_a_failing_process_is_named_and_ends_the_others():
    done = launch("2", "sh", "-c", "[ $PROCESS_ID = 1 ] && exit 7; exec sleep 600", GRACE="1")
    assert done.returncode == 7
    assert "process 1 ended with code 7" in done.stderr


@pytest.mark.parametrize(
    ("program", "code", "cause"),
    [
        ("[ $PROCESS_ID = 0 ] && exit 3; sleep 1; exit 7", 7, "process 1 ended with code 7"),
        ("[ $PROCESS_ID = 0 ] && exit 134; sleep 1; kill -9 $$", 137, "process 1 was killed by"),
        ("[ $PROCESS_ID = 0 ] && exit 3; exec sleep 600", 137, "process 1 did not end"),
        ("[ $PROCESS_ID = 0 ] && exit 75; sleep 1; exit 1", 1, "process 1 ended with code 1"),
        ("[ $PROCESS_ID = 0 ] && exit 3; exit 0", 3, "process 0 ended with code 3"),
    ],
    ids=["failed", "killed", "hangs", "not pre-empted", "no other"],
)
def test_the_cause_is_named_and_not_who_noticed_it(program, code, cause):
    done = launch("2", "sh", "-c", program, GRACE=grace_for(program))
    assert done.returncode == code
    assert f"the run ended because {cause}" in done.stderr.splitlines()[-1]


def test_a_signal_has_its_number_and_name_and_bash_adds_nothing():
    done = launch("1", "sh", "-c", "kill -KILL $$")
    assert done.stderr.splitlines() == [
        "local.sh: process 0 was killed by signal 9 (KILL)",
        "local.sh: the run ended because process 0 was killed by signal 9 (KILL)",
    ]


def test_a_stopped_process_is_named_and_killed(tmp_path):
    program = (
        f"echo $$ >{tmp_path}/$PROCESS_ID; "
        "[ $PROCESS_ID = 1 ] && kill -STOP $$; sleep 0.5; exit 134"
    )
    done = launch("3", "sh", "-c", program, GRACE="600")
    assert done.returncode == 137
    assert "because process 1 is stopped and does not answer" in done.stderr.splitlines()[-1]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "1").read_text()), 0)


def test_pre_emption_of_all_is_passed_on():
    done = launch("2", "sh", "-c", "exit 75")
    assert done.returncode == 75
    assert "the same command goes on" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_processes(number):
    name = number.name.removeprefix("SIG")
    program = f"trap 'echo told; exit 5' {name}; echo up; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [LOCAL, "2", "bash", "-c", program],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        for _ in range(2):
            assert process.stdout.readline().endswith("up\n")
        process.send_signal(number)
        assert process.stdout.read().count("told") == 2
    assert process.returncode == 5


SEEN = """
import sys
from alexnet_jax.runtime import xla_flags; xla_flags.configure_xla()
import json, os, numpy as np
from alexnet_jax.parallel import cluster, mesh, processes
member = cluster.resolve_membership("none", coordinator=os.environ["COORDINATOR_ADDRESS"],
    num_processes=int(os.environ["NUM_PROCESSES"]), process_id=int(os.environ["PROCESS_ID"]),
    environment=os.environ)
with processes.distributed_run(member, 60):
    from alexnet_jax.data import sources, stream
    source, grid = sources.Digits("train", 32, 3), mesh.make_mesh(int(sys.argv[1]))
    rows = mesh.local_batch_indices(grid, 16)
    batches = stream.training_batches(
        source, seed=3, batch_size=16, indices=rows, first_step=5, last_step=8, num_workers=2,
        prefetch=2)
    hashes = [[hash(image.tobytes()) for image in images] for images, _, _ in batches]
    ids = [
        stream.record_ids(len(source), seed=3, step=step, batch_size=16, indices=rows).tolist()
        for step in range(5, 8)]
    exact = processes.sum_over_processes(np.array([2**40 + processes.jax.process_index()]))
    print(json.dumps({"ids": ids, "rows": rows.tolist(), "sum": int(exact[0]), "hashes": hashes}))
"""


def seen(processes, model):
    done = launch(
        str(processes), sys.executable, "-c", SEEN, str(model), JAX_PLATFORMS="cpu",
        PYTHONHASHSEED="0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [line.split("] ", 1)[1] for line in done.stdout.splitlines() if '{"ids"' in line]
    return sorted((json.loads(text) for text in found), key=lambda part: part["rows"])


@pytest.mark.slow
def test_two_processes_see_disjoint_rows_whose_union_is_the_batch_of_one():
    (whole,), parts = seen(1, 1), seen(2, 1)
    assert [part["rows"] for part in parts] == [list(range(8)), list(range(8, 16))]
    for key in ("ids", "hashes"):
        for step, expected in enumerate(whole[key]):
            assert parts[0][key][step] + parts[1][key][step] == expected
    assert {part["sum"] for part in parts} == {2**41 + 1}
    # Towers on two processes: both need every row.
    assert [part["rows"] for part in seen(2, 2)] == [list(range(16))] * 2
