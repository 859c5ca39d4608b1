"""launch/ for Kubernetes: manifests that its API takes, and what the processes need of them.

Without a cluster and the network: they are compared with what the reference pages of the API say
of the fields in use (batch/v1, core/v1, jobset.x-k8s.io/v1alpha2).
"""

import json
import re

import pytest
import yaml

from tests.support.launchers import ROOT, launch, stand_in

# A field's value is a type, a set of allowed values, a dict of fields (with ! they are needed), a
# list of one, or a compiled pattern for a string.
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
CONTAINER = {
    "name!": NAME, "image!": str, "args": [str],
    "env": [{
        "name!": re.compile("[A-Z_]+"), "value": str,
        "valueFrom": {"fieldRef!": {"fieldPath!": str}},
    }],
    "resources": {
        "requests": {"cpu": QUANTITY, "memory": QUANTITY},
        "limits": {"nvidia.com/gpu": QUANTITY, "memory": QUANTITY},
    },
    "volumeMounts": [{"name!": NAME, "mountPath!": re.compile("/.*")}],
}  # fmt: skip
POD = {
    "subdomain": NAME, "restartPolicy!": {"Never", "OnFailure"},
    "terminationGracePeriodSeconds": int, "containers!": [CONTAINER],
    "volumes": [{
        "name!": NAME, "persistentVolumeClaim": {"claimName!": str},
        "emptyDir": {"medium": {"", "Memory"}},
    }],
}  # fmt: skip
JOB = {
    "completionMode": {"Indexed", "NonIndexed"}, "completions": int, "parallelism": int,
    "backoffLimit": int, "template!": {"spec!": POD},
    "podFailurePolicy": {"rules!": [{
        "action!": {"FailJob", "FailIndex", "Ignore", "Count"},
        "onExitCodes": {"containerName": str, "operator!": {"In", "NotIn"}, "values!": [int]},
        "onPodConditions": [{"type!": {"DisruptionTarget"}, "status!": {"True", "False"}}],
    }]},
}  # fmt: skip
HEAD = {"name!": NAME}
KINDS = {
    "Service": {
        "apiVersion!": {"v1"}, "kind!": str, "metadata!": HEAD,
        "spec!": {
            "clusterIP": {"None"}, "publishNotReadyAddresses": bool,
            "selector": {"batch.kubernetes.io/job-name": NAME},
        },
    },
    "Job": {"apiVersion!": {"batch/v1"}, "kind!": str, "metadata!": HEAD, "spec!": JOB},
    "JobSet": {
        "apiVersion!": {"jobset.x-k8s.io/v1alpha2"}, "kind!": str, "metadata!": HEAD,
        "spec!": {
            "network": {
                "enableDNSHostnames": bool, "publishNotReadyAddresses": bool, "subdomain": NAME,
            },
            "failurePolicy": {
                "maxRestarts": int, "restartStrategy": {"Recreate", "BlockingRecreate"},
                "rules": [{
                    "name!": re.compile("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"),
                    "action!": {
                        "FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts",
                    },
                    "onJobFailureReasons": [{
                        "BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes",
                        "MaxFailedIndexesExceeded", "PodFailurePolicy",
                    }],
                }],
            },
            "replicatedJobs!": [{"name!": NAME, "replicas": int, "template!": {"spec!": JOB}}],
        },
    },
}  # fmt: skip


def faults(schema, value, where=""):
    """What is wrong with `value`, as a list of sentences."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where} is no mapping"]
        fields = {key.removesuffix("!"): inner for key, inner in schema.items()}
        found = [f"{where}/{key} is unknown" for key in value if key not in fields]
        needed = [key[:-1] for key in schema if key.endswith("!")]
        found += [f"{where}/{key} is missing" for key in needed if key not in value]
        for key in value.keys() & fields.keys():
            found += faults(fields[key], value[key], f"{where}/{key}")
        return found
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{where} is no list"]
        return [
            fault for i, v in enumerate(value) for fault in faults(schema[0], v, f"{where}/{i}")
        ]
    if isinstance(schema, set):
        return [] if value in schema else [f"{where} is {value!r}"]
    if isinstance(schema, re.Pattern):
        good = isinstance(value, str) and schema.fullmatch(value)
        return [] if good else [f"{where} is {value!r}"]
    return [] if type(value) is schema else [f"{where} is {value!r}, no {schema.__name__}"]


def manifests(*words, jobset="1", **values):
    """What gke.sh would apply, by kind."""
    values = {"IMAGE": "registry.example/alexnet:1", "DRY_RUN": "1", "JOBSET": jobset} | values
    done = launch("gke.sh", *words, **values)
    assert done.returncode == 0, done.stderr
    return {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}


def job_of(documents):
    """The indexed Job's spec and its coordinator's host, as the cluster's names make it."""
    if "JobSet" in documents:
        (replicated,) = documents["JobSet"]["spec"]["replicatedJobs"]
        name = documents["JobSet"]["metadata"]["name"]
        assert replicated["replicas"] == 1
        assert documents["JobSet"]["spec"]["network"]["subdomain"] == name
        assert documents["JobSet"]["spec"]["network"]["enableDNSHostnames"] is True
        host = f"{name}-{replicated['name']}-0-0.{name}"
        return replicated["template"]["spec"], host
    service, job = documents["Service"], documents["Job"]
    assert service["spec"]["clusterIP"] == "None"
    selector = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert service["spec"]["selector"] == selector
    subdomain = job["spec"]["template"]["spec"]["subdomain"]
    assert subdomain == service["metadata"]["name"]
    return job["spec"], f"{job['metadata']['name']}-0.{subdomain}"


@pytest.mark.parametrize("jobset", ["1", "0"])
def test_manifests_have_known_fields_alone(jobset):
    documents = manifests(jobset=jobset)
    assert set(documents) == ({"JobSet"} if jobset == "1" else {"Service", "Job"})
    for kind, document in documents.items():
        assert faults(KINDS[kind], document) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("parallelism:", "paralelism:", "/paralelism is unknown"),
        ("restartPolicy: Never", "restartPolicy: Always", "/restartPolicy is 'Always'"),
        ("completions: 2", 'completions: "2"', "/completions is '2', no int"),
        ("- name: COORDINATOR_ADDRESS", "- nam: COORDINATOR_ADDRESS", "/0/name is missing"),
    ],
)
def test_a_mistake_in_a_manifest_would_be_seen(old, new, fault):
    text = launch("gke.sh", IMAGE="a", DRY_RUN="1").stdout
    assert old in text
    (found, *_) = reversed(faults(KINDS["JobSet"], yaml.safe_load(text.replace(old, new))))
    assert found.endswith(fault)


@pytest.mark.parametrize("jobset", ["1", "0"])
def test_processes_find_each_other(jobset):
    job, host = job_of(manifests(jobset=jobset, NAME="net-145", PROCESSES="5", PORT="7000"))
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    variables = {entry["name"]: entry for entry in container["env"]}
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"] == int(variables["NUM_PROCESSES"]["value"]) == 5
    assert variables["COORDINATOR_ADDRESS"]["value"] == f"{host}:7000"
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert variables["PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == index
    assert int(variables["JOIN_SECONDS"]["value"]) == 600


@pytest.mark.parametrize("jobset", ["1", "0"])
def test_a_pod_may_save_and_pre_emption_is_no_failure(jobset):
    documents = manifests(jobset=jobset, PROCESSES="4", MAX_RESTARTS="2")
    job, _ = job_of(documents)
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 120
    assert "command" not in pod["containers"][0], "the image's own entry point takes signals"
    actions = {
        code: rule["action"]
        for rule in job["podFailurePolicy"]["rules"]
        for code in rule.get("onExitCodes", {"values": ["disruption"]})["values"]
    }
    if jobset == "1":
        assert actions == {75: "FailJob", "disruption": "FailJob"}
        policy = documents["JobSet"]["spec"]["failurePolicy"]
        (rule,) = policy["rules"]
        assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
        assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
        assert (policy["maxRestarts"], job["backoffLimit"]) == (2, 0)
    else:
        assert actions == {75: "Ignore", "disruption": "Ignore", 2: "FailJob", 4: "FailJob"}
        assert job["backoffLimit"] == 11, "the first start and two more of four pods may fail"
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_words_and_resources_arrive():
    words = ["alexnet_jax.main", "a 'b' \"c\" & \\d", "$(NAME) $HOME ${NAME}", "x: [y] #z"]
    job, _ = job_of(manifests(*words, GPUS="4", CPUS="32", MEMORY="1Ti", CLAIM="disk"))
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    # Kubernetes makes one $ of two.
    assert [word.replace("$$", "$") for word in container["args"]] == words
    assert "$" not in "".join(container["args"]).replace("$$", "")
    assert container["image"] == "registry.example/alexnet:1"
    assert container["resources"] == {
        "requests": {"cpu": "32", "memory": "1Ti"},
        "limits": {"nvidia.com/gpu": "4", "memory": "1Ti"},
    }
    claims = [v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [{"claimName": "disk"}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"IMAGE": ""}, "IMAGE is not set"),
        ({"IMAGE": "a b"}, "IMAGE is 'a b'"),
        ({"NAME": "AlexNet"}, "NAME is 'AlexNet'"),
        ({"NAME": "a" * 43}, "expected at most 42"),
        ({"PROCESSES": "0"}, "PROCESSES is '0'"),
        ({"GPUS": "two"}, "GPUS is 'two'"),
        ({"KUBECTL": "no-such-kubectl"}, "no-such-kubectl is not installed"),
    ],
)
def test_gke_explains_wrong_use(values, message):
    done = launch("gke.sh", **{"IMAGE": "a"} | values)
    assert done.returncode == 2
    assert message in done.stderr


def test_gke_gives_kubectl_what_a_dry_run_shows(tmp_path):
    kubectl = stand_in(tmp_path / "bin", "kubectl", f'echo "$@"; cat >{tmp_path}/manifest; exit 4')
    done = launch("gke.sh", IMAGE="a", KUBECTL=kubectl, NAMESPACE="vision")
    shown = launch("gke.sh", IMAGE="a", KUBECTL=kubectl, NAMESPACE="vision", DRY_RUN="1").stdout
    assert done.returncode == 4
    assert done.stdout == "apply --namespace=vision --filename=-\n"
    assert shown == (tmp_path / "manifest").read_text() + f"# {kubectl} {done.stdout}"


def test_the_image_hands_signals_to_python():
    text = (ROOT / "launch/Dockerfile").read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.M)
    assert json.loads(entry) == ["tini", "--", "python", "-m"]
    for source in re.findall(r"^COPY (.*) \S+$", text, re.M):
        for name in source.split():
            assert (ROOT / name).exists()
            assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines()
