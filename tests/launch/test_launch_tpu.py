"""launch/tpu_vm.sh with a stand-in for gcloud that runs a command on two workers, two folders."""

import pathlib
import shutil
import signal

import pytest

from tests.support.launchers import ROOT, ends, launch, stand_in, start, wait_for_lines

GCLOUD = """
echo "$*" >>"$WORKERS/calls"
for word; do case $word in --command=*) command=${word#*=} ;; esac; done
for i in 0 1; do
  (cd "$WORKERS/$i" && HOSTNAME=host$i exec bash -c "$command") &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit "$status"
"""


@pytest.fixture
def tpu(tmp_path):
    """The environment for a TPU of two workers, whose homes are two folders."""
    for worker in "01":
        shutil.copytree(ROOT / "launch", tmp_path / worker / "alexnet/launch")
    return {
        "GCLOUD": stand_in(tmp_path / "bin", "gcloud", GCLOUD), "WORKERS": str(tmp_path),
        "TPU_NAME": "net", "ZONE": "us-central2-b",
    }  # fmt: skip


def test_tpu_dry_run_prints_the_commands(tpu):
    run = launch("tpu_vm.sh", "run", "python", "two words", **tpu, DRY_RUN="1", PROJECT="p")
    setup = launch("tpu_vm.sh", "setup", **tpu | {"DRY_RUN": "1", "GCLOUD": "gcloud"})
    stop = launch("tpu_vm.sh", "stop", **tpu | {"DRY_RUN": "1", "STOP_SECONDS": "9"})
    first, _, at_sigterm = run.stdout.splitlines()
    assert " tpu-vm ssh net " in first
    assert first.endswith(" --zone=us-central2-b --worker=all --project=p")
    assert r"launch/tpu_vm.sh worker run python '\''two words'\''" in first
    assert "worker stop 120" in at_sigterm
    words = [line.split()[:5] for line in setup.stdout.splitlines()[1:]]
    steps = ("scp", "ssh", "ssh")
    assert words == [["gcloud", "compute", "tpus", "tpu-vm", step] for step in steps]
    assert "worker setup 3.11" in setup.stdout
    assert "worker stop 9" in stop.stdout
    assert not pathlib.Path(tpu["WORKERS"], "calls").exists()


@pytest.mark.parametrize(
    ("words", "values", "message"),
    [
        ([], {}, "usage: launch/tpu_vm.sh setup | run COMMAND... | stop | status"),
        (["run"], {}, "usage:"),
        (["start"], {}, "usage:"),
        (["stop", "now"], {}, "usage:"),
        (["status"], {"ZONE": ""}, "TPU_NAME and ZONE have to be set"),
        (["stop"], {"STOP_SECONDS": "2m"}, "STOP_SECONDS '2m': expected numbers"),
    ],
)
def test_tpu_explains_wrong_use(tpu, words, values, message):
    done = launch("tpu_vm.sh", *words, **tpu | values)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("program", "code", "cause"),
    [
        ("[ $HOSTNAME = host0 ] && exit 3; sleep 1; exit 7", 7, "worker host1 ended with code 7"),
        ("[ $HOSTNAME = host1 ] && kill -STOP $$; exit 3", 137, "worker host1 did not end"),
        ("exit 75", 75, "pre-empted"),
    ],
    ids=["failed", "stopped", "pre-empted"],
)
def test_tpu_names_the_cause(tpu, program, code, cause):
    program = f"echo $$ >pid; {program}"
    grace = "1" if "STOP" in program else "600"
    done = launch("tpu_vm.sh", "run", "sh", "-c", program, **tpu, GRACE=grace)
    assert done.returncode == code, done.stderr
    assert cause in done.stderr.splitlines()[-1]
    for worker in "01":
        assert ends((pathlib.Path(tpu["WORKERS"]) / worker / "alexnet/pid").read_text().strip(), 5)


def test_tpu_output_is_marked_and_the_cluster_is_named(tpu):
    done = launch("tpu_vm.sh", "run", "sh", "-c", 'echo $ALEXNET_CLUSTER "$0"', "a  'b'", **tpu)
    assert done.returncode == 0
    marked = sorted(line for line in done.stdout.splitlines() if line.startswith("["))
    assert marked == ["[host0] tpu a  'b'", "[host1] tpu a  'b'"]


def test_a_gcloud_that_fails_is_no_success(tpu, tmp_path):
    gcloud = stand_in(tmp_path / "bin", "gcloud", "echo no such TPU >&2; exit 1")
    done = launch("tpu_vm.sh", "run", "true", **tpu | {"GCLOUD": gcloud})
    assert done.returncode == 1
    assert "gcloud ended with code 1" in done.stderr
    assert "no such TPU" in done.stdout


@pytest.mark.parametrize("by", ["SIGTERM", "SIGINT", "stop"])
def test_tpu_processes_get_sigterm(tpu, by):
    program = "trap 'echo told; exit 75' TERM; echo up; while :; do sleep 0.1; done"
    with start("tpu_vm.sh", "run", "bash", "-c", program, **tpu) as process:
        wait_for_lines(process, "up", 2)
        assert launch("tpu_vm.sh", "status", **tpu).stdout.count(" runs") == 2
        if by == "stop":
            assert launch("tpu_vm.sh", "stop", **tpu).returncode == 0
        else:
            process.send_signal(signal.Signals[by])
        assert process.stdout.read().count("told") == 2
    assert process.returncode == 75
    assert launch("tpu_vm.sh", "status", **tpu).stdout.count("nothing runs") == 2
