"""launch/slurm.sbatch with stand-ins for srun, scontrol and scancel that note their calls."""

import os

import pytest

from tests.support.launchers import ROOT, launch, stand_in, start, wait_for_lines

# Like srun: a task for each of SLURM_NTASKS with its number, labelled output, the highest exit
# code; SIGTERM to srun itself kills the tasks, and scancel reaches them by their pids.
SRUN = """
echo "srun $*" >>"$CALLS/calls"
kill_others=
while [[ $1 == -* ]]; do
  [[ $1 =~ ^(-K|--kill-on-bad-exit)(=1)?$ ]] && kill_others=1
  shift
done
trap 'kill -KILL "${pids[@]}"' TERM
for ((i = 0; i < SLURM_NTASKS; i++)); do
  SLURM_PROCID=$i "$@" > >(sed -u "s/^/$i: /") &
  pids+=($!)
done
echo "${pids[@]}" >"$CALLS/tasks"
highest=0
for pid in "${pids[@]}"; do
  wait "$pid"
  code=$?
  [ "$code" -le "$highest" ] || highest=$code
  [ "$code" -eq 0 ] || [ -z "$kill_others" ] || kill -KILL "${pids[@]}" 2>/dev/null
done
exit "$highest"
"""
SCONTROL = """
echo "scontrol $*" >>"$CALLS/calls"
case "$1 $2" in
  "show hostnames") printf 'gpu07\\ngpu09\\n' ;;
  "show --oneliner") echo "JobId=$4 JobName=alexnet JobState=$JOB_STATE Reason=None" ;;
esac
"""
SCANCEL = """
echo "scancel $*" >>"$CALLS/calls"
[ "$1" = --signal=TERM ] && kill -TERM $(cat "$CALLS/tasks")
"""


@pytest.fixture
def cluster(tmp_path):
    """The environment of a job of two nodes with one task each."""
    folder = tmp_path / "bin"
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("scancel", SCANCEL)):
        stand_in(folder, name, text)
    (tmp_path / "calls").touch()
    return {
        "PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(tmp_path), "JOB_STATE": "RUNNING",
        "SLURM_JOB_ID": "5000", "SLURM_JOB_NODELIST": "gpu[07,09]", "SLURM_NTASKS": "2",
    }  # fmt: skip


def calls(cluster):
    with open(f"{cluster['CALLS']}/calls") as lines:
        return lines.read().splitlines()


def test_dry_run_prints_the_commands_and_runs_none(cluster):
    cluster["SLURM_CPUS_PER_TASK"] = "8"
    done = launch("slurm.sbatch", "python", "two words", **cluster, DRY_RUN="1")
    step, cancel, requeue = done.stdout.splitlines()
    assert step.startswith("COORDINATOR_ADDRESS=gpu07:63248 'srun' '--label' ")
    assert step.endswith("'--cpus-per-task=8' 'python' 'two words'")
    assert cancel.startswith("scancel --signal=TERM 5000.0")
    assert requeue.startswith("scontrol requeue 5000")
    assert calls(cluster) == ["scontrol show hostnames gpu[07,09]"]


def test_dry_run_outside_a_job_shows_the_default_command():
    done = launch("slurm.sbatch", DRY_RUN="1", CONFIG="configs/cifar10.py", WORKDIR="/shared/run")
    assert done.returncode == 0, done.stderr
    assert "'alexnet_jax.main' '--config=configs/cifar10.py' '--workdir=/shared/run'" in done.stdout


def test_outside_slurm_it_says_how_to_start_it():
    done = launch("slurm.sbatch", "true")
    assert done.returncode == 2
    assert "start it with sbatch" in done.stderr


def test_numbers_are_checked(cluster):
    done = launch("slurm.sbatch", "true", **cluster, MAX_RESTARTS="many")
    assert done.returncode == 2
    assert "MAX_RESTARTS is 'many'" in done.stderr


def test_tasks_have_one_coordinator_and_their_numbers(cluster):
    done = launch(
        "slurm.sbatch", "sh", "-c", "echo $SLURM_PROCID $COORDINATOR_ADDRESS $1", "x", "a  'b'",
        **cluster,
    )  # fmt: skip
    assert done.returncode == 0
    expected = ["0: 0 gpu07:63248 a 'b'", "1: 1 gpu07:63248 a 'b'"]
    assert sorted(done.stdout.splitlines()) == expected
    assert any("--kill-on-bad-exit=0 --wait=90" in call for call in calls(cluster))


def test_two_jobs_that_follow_each_other_use_different_pairs_of_ports(cluster):
    ports = []
    for job in ("5000", "5001"):
        done = launch(
            "slurm.sbatch", "sh", "-c", "echo $COORDINATOR_ADDRESS",
            **cluster | {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1"},
        )  # fmt: skip
        ports.append(int(done.stdout.rsplit(":", 1)[1]))
    assert ports[1] == ports[0] + 2
    assert all(61440 <= port < 65535 for port in ports)


@pytest.mark.parametrize(
    ("code", "values", "requeued"),
    [
        (0, {}, False),
        (1, {}, False),
        (2, {}, False),
        (3, {}, False),
        (75, {}, True),
        (75, {"SLURM_RESTART_COUNT": "2", "MAX_RESTARTS": "3"}, True),
        (75, {"SLURM_RESTART_COUNT": "3", "MAX_RESTARTS": "3"}, False),
        (75, {"JOB_STATE": "CANCELLED"}, False),
    ],
)
def test_what_goes_back_into_the_queue(cluster, code, values, requeued):
    done = launch("slurm.sbatch", "sh", "-c", f"exit {code}", **cluster | values)
    assert done.returncode == code
    assert ("scontrol requeue 5000" in calls(cluster)) == requeued
    assert ("not put back" in done.stderr) == (code == 75 and not requeued)


def test_one_task_that_is_pre_empted_first_does_not_lose_the_others(cluster):
    program = "[ $SLURM_PROCID = 0 ] || sleep 1; echo saved; exit 75"
    done = launch("slurm.sbatch", "sh", "-c", program, **cluster)
    assert done.stdout.count("saved") == 2
    assert "scontrol requeue 5000" in calls(cluster)


def test_sigterm_reaches_the_tasks_through_slurm(cluster):
    program = "trap 'echo told; exit 75' TERM; echo up; while :; do sleep 0.1; done"
    with start("slurm.sbatch", "bash", "-c", program, **cluster) as process:
        wait_for_lines(process, "up", 2)
        process.terminate()
        assert process.stdout.read().count("told") == 2
    assert process.returncode == 75
    assert "scancel --signal=TERM 5000.0" in calls(cluster)
    assert calls(cluster)[-1] == "scontrol requeue 5000"


def test_what_the_batch_options_promise():
    lines = (ROOT / "launch/slurm.sbatch").read_text().splitlines()
    first_command = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [line.split()[1] for line in lines[:first_command] if line.startswith("#SBATCH")]
    for option in ("--signal=B:TERM@120", "--requeue", "--open-mode=append", "--nodes=2"):
        assert option in options
    assert not [line for line in lines[first_command:] if line.startswith("#SBATCH")]
