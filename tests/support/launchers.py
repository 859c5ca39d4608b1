"""Running the scripts of launch/ with stand-ins for the programs of a cluster."""

import os
import pathlib
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).parent.parent.parent

# What would change a script's behaviour if the tests' own environment had it.
_OURS = """
SSH REMOTE_DIR PORT COORDINATOR FORWARD GRACE DRY_RUN CONFIG WORKDIR MAX_RESTARTS LAST_WAIT
NAME NAMESPACE IMAGE PROCESSES GPUS CPUS MEMORY CLAIM JOBSET KUBECTL TPU_NAME ZONE PROJECT
STOP_SECONDS PYTHON_VERSION GCLOUD XLA_FLAGS JAX_NUM_CPU_DEVICES
"""


def environment(**values):
    """The tests' environment without the scripts' own variables and Slurm's, and with `values`."""
    ours = set(_OURS.split())
    kept = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("SLURM_")}
    return kept | values


def launch(script, *words, **values):
    """A script of launch/ with arguments `words`; `values` are set in its environment."""
    return subprocess.run(
        [str(ROOT / "launch" / script), *words], cwd=ROOT, env=environment(**values),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def start(script, *words, **values):
    """The same without waiting; standard error goes where standard output goes."""
    return subprocess.Popen(
        [str(ROOT / "launch" / script), *words], cwd=ROOT, env=environment(**values),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def stand_in(folder, name, text):
    """An executable bash script of this name in `folder`; returns its path."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/usr/bin/env bash\n" + text)
    path.chmod(0o755)
    return str(path)


def wait_for_lines(process, ending, count):
    """Read the output of a started script until so many lines have had this ending."""
    while count:
        line = process.stdout.readline()
        assert line, f"the output ended before '{ending}' came"
        count -= line.rstrip("\n").endswith(ending)


def ends(pid, seconds=30):
    """Whether a process that is not ours ends within these seconds."""
    deadline = time.monotonic() + seconds
    while pathlib.Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def free_ports():
    """A port that is free, as is the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def grace_for(program):
    """GRACE for a test program: short where it is waited for, else more than any machine needs."""
    return "1" if "sleep 600" in program else "600"
