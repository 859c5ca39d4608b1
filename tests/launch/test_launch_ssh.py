"""launch/ssh.sh on loopback: a stand-in for ssh gives the command to a shell, as sshd does."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.support.launchers import (
    ROOT,
    ends,
    free_ports,
    grace_for,
    launch,
    stand_in,
    start,
    wait_for_lines,
)

STAND_IN = """
while [[ $1 == -* ]]; do shift 2; done
host=$1
shift
[ "$host" != unreachable ] || { echo "ssh: connect to host unreachable: refused" >&2; exit 255; }
exec bash -c "$*"
"""


@pytest.fixture
def ssh(tmp_path):
    return stand_in(tmp_path / "bin", "ssh", STAND_IN) + " -o BatchMode=yes"


def test_dry_run_prints_what_each_host_would_run():
    done = launch(
        "ssh.sh", "node1,me@node2", "python", "two words", DRY_RUN="1", REMOTE_DIR="/the project",
        FORWARD="JAX_PLATFORMS NOT_SET", JAX_PLATFORMS="cpu",
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert [line.split(" 'cd ")[0].split()[-1] for line in lines] == ["node1", "me@node2"]
    for rank, line in enumerate(lines):
        assert line.startswith("ssh -o BatchMode=yes ")
        assert r"cd '\''/the project'\'' && exec bash launch/remote.sh 45 env" in line
        assert "COORDINATOR_ADDRESS=node1:12421 NUM_PROCESSES=2 " in line
        assert f"PROCESS_ID={rank} JAX_PLATFORMS=cpu python '\\''two words'\\''" in line
        assert "NOT_SET" not in line


def test_hosts_from_a_file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# two of them\nnode1\n\n  me@node2  # with a GPU\n")
    done = launch("ssh.sh", str(path), "true", DRY_RUN="1", COORDINATOR="10.0.0.1", PORT="7")
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.count("COORDINATOR_ADDRESS=10.0.0.1:7 NUM_PROCESSES=2") == 2
    assert " me@node2 " in done.stdout


@pytest.mark.parametrize(
    ("words", "values", "message"),
    [
        (["node1"], {}, "usage: launch/ssh.sh HOSTS COMMAND"),
        (["no/such/file", "true"], {}, "there is no file no/such/file"),
        (["/dev/null/", "true"], {}, "there is no file"),
        (["-oProxyCommand=x", "true"], {}, "is no host"),
        (["a,,b", "true"], {}, "'' in a,,b is no host"),
        (["a", "true"], {"PORT": "x"}, "PORT is 'x': expected a number"),
        (["a", "true"], {"GRACE": "1m"}, "GRACE is '1m': expected a number"),
        (["a", "true"], {"FORWARD": "A=b"}, "FORWARD has 'A=b'"),
    ],
)
def test_wrong_use_is_explained(words, values, message):
    done = launch("ssh.sh", *words, DRY_RUN="1", **values)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_words_and_variables_arrive_intact_and_output_is_marked(ssh):
    words = ["it's", 'a "b"  c', "$HOME `id` \\ * ; #", "", "two\nlines"]
    program = "import json, os, sys; print(json.dumps([os.environ['ODD'], *sys.argv[1:]]))"
    done = launch(
        "ssh.sh", "a,me@b", sys.executable, "-c", program, *words, SSH=ssh, FORWARD="ODD",
        ODD="o'd d",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    marked = dict(line.split("] ", 1) for line in done.stdout.splitlines())
    assert set(marked) == {"[0 a", "[1 me@b"}
    for text in marked.values():
        assert json.loads(text) == ["o'd d", *words]


def test_a_command_starts_in_the_projects_folder(ssh):
    done = launch("ssh.sh", "a", "sh", "-c", "pwd; cat; echo $COORDINATOR_ADDRESS", SSH=ssh)
    assert done.stdout.splitlines() == [f"[0 a] {ROOT}", "[0 a] a:12421"]


@pytest.mark.parametrize(
    ("program", "code", "cause"),
    [
        ("[ $PROCESS_ID = 0 ] && exit 3; sleep 1; exit 7", 7, "process 1 on b ended with code 7"),
        ("[ $PROCESS_ID = 0 ] && exit 3; sleep 1; kill -9 $$", 137, "process 1 on b was killed by"),
        ("[ $PROCESS_ID = 0 ] && exit 3; exec sleep 600", 137, "process 1 on b did not end"),
        ("[ $PROCESS_ID = 1 ] && kill -STOP $$; sleep 1; exit 3", 137, "process 1 on b is stopped"),
    ],
    ids=["failed", "killed", "hangs", "stopped"],
)
def test_the_cause_is_named_with_its_host(ssh, tmp_path, program, code, cause):
    program = f"echo $$ >{tmp_path}/$PROCESS_ID; {program}"
    done = launch("ssh.sh", "a,b", "sh", "-c", program, SSH=ssh, GRACE=grace_for(program))
    assert done.returncode == code, done.stderr
    assert f"the run ended because {cause}" in done.stderr.splitlines()[-1]
    for rank in "01":
        assert ends((tmp_path / rank).read_text().strip(), 1)


def test_a_host_that_refuses_ends_the_others(ssh):
    done = launch("ssh.sh", "a,unreachable", "sleep", "600", SSH=ssh, GRACE="1")
    assert done.returncode == 255
    assert "process 1 on unreachable ended with code 255" in done.stderr.splitlines()[-1]
    assert "255 is ssh's own code" in done.stderr
    assert "[1 unreachable] ssh: connect to host" in done.stderr


def test_pre_emption_of_all_is_passed_on(ssh):
    assert launch("ssh.sh", "a,b", "sh", "-c", "exit 75", SSH=ssh).returncode == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_processes(ssh, number):
    name = "INT" if number == signal.SIGINT else "TERM"
    program = f"trap 'echo told; exit 5' {name}; echo up; while :; do sleep 0.1; done"
    with start("ssh.sh", "a,b", "bash", "-c", program, SSH=ssh) as process:
        wait_for_lines(process, "up", 2)
        process.send_signal(number)
        assert process.stdout.read().count("told") == 2
    assert process.returncode == 5


@pytest.mark.parametrize(
    "program",
    ["exec sleep 600", "trap '' TERM; while :; do sleep 0.1; done", "kill -STOP $$"],
    ids=["asleep", "ignores SIGTERM", "stopped"],
)
def test_a_killed_launcher_leaves_no_process_behind(ssh, tmp_path, program):
    program = f"echo $$ >{tmp_path}/$PROCESS_ID; echo up; {program}"
    with start("ssh.sh", "a,b", "bash", "-c", program, SSH=ssh, GRACE="1") as process:
        wait_for_lines(process, "up", 2)
        process.kill()
        pids = [(tmp_path / rank).read_text().strip() for rank in "01"]
        assert all(ends(pid) for pid in pids)


def test_a_signal_that_arrives_in_two_parts_is_not_lost():
    program = "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [str(ROOT / "launch/remote.sh"), "1", "bash", "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        bufsize=0,
    ) as process:  # fmt: skip
        wait_for_lines(process, "up", 1)
        process.stdin.write("TE")
        time.sleep(0.5)  # more than a line may take
        process.stdin.write("RM\n")
        try:
            assert process.wait(timeout=60) == 5
        finally:
            process.stdin.close()  # ends it in any case


@pytest.mark.slow
def test_two_hosts_train_together(ssh, tmp_path):
    done = launch(
        "ssh.sh", "127.0.0.1,127.0.0.1", sys.executable, "-m", "alexnet_jax.main",
        "--config=configs/quickstart.py:smoke", f"--workdir={tmp_path}/run", SSH=ssh,
        FORWARD="JAX_PLATFORMS JAX_NUM_CPU_DEVICES", JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="1",
        PORT=str(free_ports()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 3
