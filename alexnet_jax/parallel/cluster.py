"""Which processes belong to a run, from the command's flags and the environment of a cluster.

Slurm, Open MPI, indexed Jobs of Kubernetes and Cloud TPU are recognised. jax can find most of this
itself, but the processes must meet before jax's runtime starts (rendezvous.py), and jax gives only
one device to a process that Slurm or Open MPI starts for a whole node.
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
    """This process's place in a run, as jax.distributed.initialize takes it.

    `coordinator` is HOST:PORT of process 0. `local_device_ids` are the GPUs of this host that the
    process uses, None for all that it sees. All fields are None on Cloud TPU, where jax asks the
    machine.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] | None = None


def resolve_membership(
    cluster: str,
    *,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    environment: Mapping[str, str],
) -> Membership | None:
    """The flags' values, completed from the environment; None for a run of one process.

    `cluster` is one of KINDS. UserError where something is missing or impossible.
    """
    if cluster not in KINDS:
        raise UserError(f"--cluster is '{cluster}': expected {', '.join(KINDS)}.")
    member = Membership(coordinator, num_processes, process_id)
    if None in (coordinator, num_processes, process_id) and num_processes != 1:
        cluster = _detect_cluster(environment) if cluster == "auto" else cluster
        if cluster == "tpu":
            return Membership()
        if cluster in _READERS:
            detected = _READERS[cluster](environment, member)
            member = Membership(
                detected.coordinator if coordinator is None else coordinator,
                detected.num_processes if num_processes is None else num_processes,
                detected.process_id if process_id is None else process_id,
                detected.local_device_ids,
            )
    return _validate(member, cluster, environment)


def _detect_cluster(environment: Mapping[str, str]) -> str:
    """The cluster whose variables are set; "none" on a single machine."""
    variables = {
        "openmpi": "OMPI_COMM_WORLD_SIZE",
        "slurm": "SLURM_STEP_NODELIST",  # set by srun, and not in a batch script
        "kubernetes": "JOB_COMPLETION_INDEX",
    }
    for cluster, variable in variables.items():
        if variable in environment:
            return cluster
    workers = environment.get("TPU_WORKER_HOSTNAMES", "")
    return "tpu" if "," in workers else "none"


def _validate(
    member: Membership, cluster: str, environment: Mapping[str, str]
) -> Membership | None:
    """The membership if it is complete and possible, None for a run of one process."""
    coordinator, count, process_id = member.coordinator, member.num_processes, member.process_id
    if count == 1 or (coordinator, count, process_id) == (None, None, None):
        return None
    if coordinator is None or count is None or process_id is None:
        problem = "nothing else was found"
        if cluster != "none":
            problem = f"{cluster} gave only some of them"
        raise UserError(
            "A run of several processes needs --coordinator, --processes and --process together "
            f"(or COORDINATOR_ADDRESS, NUM_PROCESSES and PROCESS_ID in the environment), but "
            f"{problem}."
        )
    if not 0 <= process_id < count:
        raise UserError(f"--process={process_id} must be at least 0 and below --processes={count}.")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(
            f"--coordinator={coordinator}: expected HOST:PORT of process 0, such as node01:12421."
        )
    if member.local_device_ids is None and coordinator.rpartition(":")[0] in _LOOPBACK:
        devices = _local_devices(environment, process_id, count)  # all are on this host
        member = dataclasses.replace(member, local_device_ids=devices)
    return member


def _from_slurm(environment: Mapping[str, str], flags: Membership) -> Membership:
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
        _local_devices(
            environment,
            _number(environment, "SLURM_LOCALID"),
            _local_tasks(environment.get("SLURM_STEP_TASKS_PER_NODE", "1"), environment),
        ),
    )


def _from_openmpi(environment: Mapping[str, str], flags: Membership) -> Membership:
    """From the variables of mpirun; only versions before 5 give the address of its host."""
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    host = re.search(r"tcp://([^,:]+)", uri)
    if host is None and flags.coordinator is None:
        raise UserError(
            "This version of Open MPI does not tell where process 0 is: give every process "
            "--coordinator=HOST:PORT, or mpirun -x COORDINATOR_ADDRESS=HOST:PORT."
        )
    job = int(uri.split(".")[0]) // 4096 if host else 0  # always a multiple of 4096
    return Membership(
        f"{host[1]}:{_FIRST_PORT + 2 * (job % _PORT_PAIRS)}" if host else None,
        _number(environment, "OMPI_COMM_WORLD_SIZE"),
        _number(environment, "OMPI_COMM_WORLD_RANK"),
        _local_devices(
            environment,
            _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK"),
            _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ),
    )


def _from_kubernetes(environment: Mapping[str, str], flags: Membership) -> Membership:
    """The completion index of an indexed Job; a pod does not know the rest."""
    if flags.coordinator is None or flags.num_processes is None:
        raise UserError(
            "In an indexed Job of Kubernetes COORDINATOR_ADDRESS and NUM_PROCESSES have to be set "
            "too, as launch/gke_jobset.yaml does; NUM_PROCESSES=1 lets each pod run by itself."
        )
    return Membership(process_id=_number(environment, "JOB_COMPLETION_INDEX"))


_READERS = {"slurm": _from_slurm, "openmpi": _from_openmpi, "kubernetes": _from_kubernetes}


def _local_devices(
    environment: Mapping[str, str], local_rank: int, local_processes: int
) -> tuple[int, ...] | None:
    """The GPUs of one of a host's processes, where each process sees all GPUs of the host."""
    if environment.get("JAX_PLATFORMS") == "cpu":
        return None
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    count = len(visible.split(",")) if visible else _gpus_of_machine()
    on_node = environment.get("SLURM_GPUS_ON_NODE", "")
    bound = on_node.isdigit() and count < int(on_node)  # each process sees its own GPUs only
    if local_processes == 1 or count <= 1 or bound:
        return None
    if count % local_processes:
        raise UserError(
            f"{local_processes} processes on a host can't share its {count} GPUs equally: start "
            "one for the host, one for each GPU, or a number between that divides them."
        )
    per_process = count // local_processes
    return tuple(range(local_rank * per_process, (local_rank + 1) * per_process))


def _gpus_of_machine() -> int:
    return len(list(pathlib.Path("/dev").glob("nvidia[0-9]*")))


def _local_tasks(tasks_per_node: str, environment: Mapping[str, str]) -> int:
    """The number of tasks on this node, from Slurm's list such as "4(x2),3"."""
    counts: list[int] = []
    for part in tasks_per_node.split(","):
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
