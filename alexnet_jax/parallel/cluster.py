"""Which processes belong to a run, as flags or the environment of a cluster say.

Slurm, Open MPI, indexed Jobs of Kubernetes and Cloud TPU are known. jax can find out most of this
by itself; it is done here since the processes meet before jax's runtime starts (peers.py), and
since jax gives one device to the process that Slurm or Open MPI starts for a whole node.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from alexnet_jax.runtime.errors import UserError

KINDS = ("auto", "none", "slurm", "openmpi", "kubernetes", "tpu")
# The coordinator's port and the next one are used: pairs from 61,440 up, by the number of the job.
_FIRST_PORT, _PORT_PAIRS = 61440, 2048
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclasses.dataclass(frozen=True)
class Membership:
    """This process of a run: the coordinator's host:port, how many there are, which one it is.

    `devices` are the GPUs of this host that it takes, None for all that it sees. All of them are
    None on Cloud TPU, where jax asks the machine.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    devices: tuple[int, ...] | None = None


def membership(
    kind: str,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    environment: Mapping[str, str],
) -> Membership | None:
    """What flags give, completed from the environment; None for a run of one process.

    UserError where something is missing or impossible.
    """
    if kind not in KINDS:
        raise UserError(f"--cluster is '{kind}': expected {', '.join(KINDS)}.")
    given = Membership(coordinator, processes, process)
    if None in (coordinator, processes, process) and processes != 1:
        kind = _detected(environment) if kind == "auto" else kind
        if kind == "tpu":
            return Membership()
        if kind in _FOUND:
            found = _FOUND[kind](environment, given)
            given = dataclasses.replace(
                found,
                **{name: value for name, value in vars(given).items() if value is not None},
            )
    return _checked(given, kind, environment)


def _detected(environment: Mapping[str, str]) -> str:
    """The cluster whose variables are there; "none" on a machine by itself."""
    signs = {
        "openmpi": "OMPI_COMM_WORLD_SIZE",
        "slurm": "SLURM_STEP_NODELIST",  # set by srun, and not in a batch script
        "kubernetes": "JOB_COMPLETION_INDEX",
    }
    for kind, variable in signs.items():
        if variable in environment:
            return kind
    workers = environment.get("TPU_WORKER_HOSTNAMES", "")
    return "tpu" if "," in workers else "none"


def _checked(given: Membership, kind: str, environment: Mapping[str, str]) -> Membership | None:
    """The same if it is whole and possible, None if it is a run of one process."""
    numbers = (given.coordinator, given.processes, given.process)
    if given.processes == 1 or numbers == (None, None, None):
        return None
    if None in numbers:
        raise UserError(
            "A run of several processes needs --coordinator, --processes and --process together "
            f"(or COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID in the environment), but "
            f"{'nothing else was found' if kind == 'none' else f'{kind} gave only some of them'}."
        )
    if not 0 <= given.process < given.processes:
        raise UserError(
            f"--process={given.process} must be at least 0 and below --processes={given.processes}."
        )
    if not re.fullmatch(r".+:\d+", given.coordinator):
        raise UserError(
            f"--coordinator={given.coordinator}: expected HOST:PORT of process 0, such as "
            "node01:12421."
        )
    if given.devices is None and given.coordinator.rpartition(":")[0] in _LOOPBACK:
        devices = _own_devices(environment, given.process, given.processes)  # all are on this host
        given = dataclasses.replace(given, devices=devices)
    return given


def _slurm(environment: Mapping[str, str], given: Membership) -> Membership:
    """From the variables of srun, of which each task is a process."""
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    job = _number(environment, "SLURM_JOB_ID") + _number(environment, "SLURM_STEP_ID")
    # "node007", "node007,node9" or "node[007-010,12],other"
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    if first is None:
        raise UserError(f"SLURM_STEP_NODELIST is '{nodes}': start the processes with srun.")
    return Membership(
        f"{first[1]}{first[2] or ''}:{_FIRST_PORT + 2 * (job % _PORT_PAIRS)}",
        tasks,
        _number(environment, "SLURM_PROCID"),
        _own_devices(
            environment,
            _number(environment, "SLURM_LOCALID"),
            _tasks_here(environment.get("SLURM_STEP_TASKS_PER_NODE", "1"), environment),
        ),
    )


def _openmpi(environment: Mapping[str, str], given: Membership) -> Membership:
    """From the variables of mpirun; the address of its host is told by versions before 5."""
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    host = re.search(r"tcp://([^,:]+)", uri)
    if host is None and given.coordinator is None:
        raise UserError(
            "This version of Open MPI does not tell where process 0 is: give every process "
            "--coordinator=HOST:PORT, or mpirun -x COORDINATOR_ADDRESS=HOST:PORT."
        )
    job = int(uri.split(".")[0]) // 4096 if host else 0  # always a multiple of 4096
    return Membership(
        f"{host[1]}:{_FIRST_PORT + 2 * (job % _PORT_PAIRS)}" if host else None,
        _number(environment, "OMPI_COMM_WORLD_SIZE"),
        _number(environment, "OMPI_COMM_WORLD_RANK"),
        _own_devices(
            environment,
            _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK"),
            _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ),
    )


def _kubernetes(environment: Mapping[str, str], given: Membership) -> Membership:
    """The completion index of an indexed Job; a pod does not know the rest."""
    if given.coordinator is None or given.processes is None:
        raise UserError(
            "In an indexed Job of Kubernetes COORDINATOR_ADDRESS and NUM_PROCESSES have to be set "
            "too, as launch/gke_jobset.yaml does; NUM_PROCESSES=1 lets each pod run by itself."
        )
    return Membership(process=_number(environment, "JOB_COMPLETION_INDEX"))


_FOUND = {"slurm": _slurm, "openmpi": _openmpi, "kubernetes": _kubernetes}


def _own_devices(
    environment: Mapping[str, str], local: int, processes_here: int
) -> tuple[int, ...] | None:
    """Process number `local` of a host's share of its GPUs, where all see all of them."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return None
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    count = len(visible.split(",")) if visible else _gpus_of_machine()
    on_node = environment.get("SLURM_GPUS_ON_NODE", "")
    bound = on_node.isdigit() and count < int(on_node)  # each process sees its own alone
    if processes_here == 1 or count <= 1 or bound:
        return None
    if count % processes_here:
        raise UserError(
            f"{processes_here} processes on a host can't share its {count} GPUs equally: start one "
            "for the host, one for each GPU, or a number between that divides them."
        )
    own = count // processes_here
    return tuple(range(local * own, (local + 1) * own))


def _gpus_of_machine() -> int:
    return len(list(pathlib.Path("/dev").glob("nvidia[0-9]*")))


def _tasks_here(listed: str, environment: Mapping[str, str]) -> int:
    """Tasks on this node out of Slurm's list such as "4(x2),3"."""
    counts = []
    for part in listed.split(","):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    node = environment.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else counts[0]


def _number(environment: Mapping[str, str], *names: str) -> int:
    """The first of these variables that is set, as a number."""
    for name in names:
        text = environment.get(name)
        if text is not None:
            if not text.isdigit():
                raise UserError(f"{name} is '{text}' in the environment: expected a number.")
            return int(text)
    raise UserError(f"{names[0]} is not set: start the processes with srun, mpirun or a Job.")
