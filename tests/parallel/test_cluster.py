"""Which processes a run has, from flags and from the variables that clusters set."""

import pytest

from alexnet_jax.parallel import cluster
from alexnet_jax.parallel.cluster import Membership
from alexnet_jax.runtime.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "70001", "SLURM_STEP_ID": "1", "SLURM_STEP_NODELIST": "gpu[007-009,012],login",
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NODEID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x4)",
}  # fmt: skip
OPENMPI = {
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}  # fmt: skip


def resolve(kind, flags, environment):
    """The membership for `flags`: coordinator, number of processes, and which of them this is."""
    names = ("coordinator", "num_processes", "process_id")
    options = dict(zip(names, flags, strict=True))
    return cluster.resolve_membership(kind, **options, environment=environment)


NO_FLAGS = (None, None, None)


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch):
    monkeypatch.setattr(cluster, "_gpus_of_machine", lambda: 0)


@pytest.mark.parametrize(
    ("kind", "flags", "environment", "expected"),
    [
        ("auto", NO_FLAGS, {}, None),
        ("auto", ("a:1", 1, 0), {}, None),
        ("auto", (None, 1, None), SLURM, None),
        ("none", NO_FLAGS, SLURM, None),
        ("auto", ("a:1", 2, 1), SLURM, Membership("a:1", 2, 1)),
        ("auto", ("[::1]:9", 2, 0), {}, Membership("[::1]:9", 2, 0)),
        ("auto", NO_FLAGS, SLURM, Membership("gpu007:62180", 8, 5)),
        ("slurm", ("b:7", None, None), SLURM, Membership("b:7", 8, 5)),
        ("auto", NO_FLAGS, OPENMPI, Membership("10.96.0.1:63808", 4, 2)),
        ("auto", NO_FLAGS, OPENMPI | SLURM, Membership("10.96.0.1:63808", 4, 2)),
        ("auto", ("c:3", 4, None), {"JOB_COMPLETION_INDEX": "3"}, Membership("c:3", 4, 3)),
        ("tpu", NO_FLAGS, {}, Membership()),
        ("auto", NO_FLAGS, {"TPU_WORKER_HOSTNAMES": "t0,t1"}, Membership()),
        ("auto", NO_FLAGS, {"TPU_WORKER_HOSTNAMES": "t0"}, None),
    ],
)
def test_processes_are_found(kind, flags, environment, expected):
    assert resolve(kind, flags, environment) == expected


def test_a_batch_script_outside_srun_is_one_process():
    batch = {name: SLURM[name] for name in SLURM if "STEP" not in name} | {"SLURM_NTASKS": "8"}
    assert resolve("auto", NO_FLAGS, batch) is None


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("node1", "node1"), ("node1,node2", "node1"), ("n[1-3]", "n1"), ("n[07,09-11],m", "n07")],
)
def test_the_first_node_is_the_coordinators(nodes, host):
    member = resolve("auto", NO_FLAGS, SLURM | {"SLURM_STEP_NODELIST": nodes})
    assert member.coordinator.split(":")[0] == host


def test_two_jobs_on_a_node_have_ports_of_their_own():
    ports = set()
    for job in range(70000, 70100):
        member = resolve("auto", NO_FLAGS, SLURM | {"SLURM_JOB_ID": str(job)})
        port = int(member.coordinator.split(":")[1])
        assert 61440 <= port < 65535
        ports |= {port, port + 1}
    assert len(ports) == 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, (2, 3)),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, (1,)),
        ({"CUDA_VISIBLE_DEVICES": "0"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_ON_NODE": "4"}, None),  # its own two
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_ON_NODE": "4"}, (2, 3)),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_STEP_TASKS_PER_NODE": "1(x8)"}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_STEP_TASKS_PER_NODE": "1,3,4"}, (1,)),
        ({}, None),
    ],
)
def test_the_processes_of_a_host_share_its_gpus(changes, expected):
    assert resolve("auto", NO_FLAGS, SLURM | changes).local_device_ids == expected


def test_processes_of_one_machine_share_its_gpus():
    gpus = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    for process, devices in ((0, (0, 1)), (1, (2, 3))):
        assert resolve("none", ("127.0.0.1:9", 2, process), gpus).local_device_ids == devices
        assert resolve("none", ("node1:9", 2, process), gpus).local_device_ids is None
    assert (
        resolve("none", ("localhost:9", 2, 0), gpus | {"JAX_PLATFORMS": "cpu"}).local_device_ids
        is None
    )


@pytest.mark.parametrize(
    ("kind", "flags", "environment", "sentence"),
    [
        ("lsf", NO_FLAGS, {}, "--cluster is 'lsf': expected auto, none, slurm"),
        ("auto", ("a:1", None, None), {}, "together .*nothing else was found"),
        ("auto", (None, 2, 0), {}, "needs --coordinator"),
        ("auto", ("a:1", 2, 2), {}, "--process=2 must be at least 0 and below --processes=2"),
        ("auto", ("a", 2, 1), {}, "expected HOST:PORT"),
        ("auto", NO_FLAGS, {"JOB_COMPLETION_INDEX": "0"}, "COORDINATOR_ADDRESS and NUM"),
        ("slurm", NO_FLAGS, {}, "SLURM_STEP_NUM_TASKS is not set: start the processes"),
        ("auto", NO_FLAGS, SLURM | {"SLURM_PROCID": "x"}, "SLURM_PROCID is 'x'"),
        ("auto", NO_FLAGS, SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2"}, "its 3 GPUs"),
        ("openmpi", NO_FLAGS, OPENMPI | {"OMPI_MCA_orte_hnp_uri": ""}, "mpirun -x"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(kind, flags, environment, sentence):
    with pytest.raises(UserError, match=sentence):
        resolve(kind, flags, environment)
