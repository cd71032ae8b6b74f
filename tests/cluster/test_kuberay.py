"""The cluster files: strictly valid for KubeRay, and at one with the project's own versions."""

import copy
import lzma
import os
import re
import shlex
import socket
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import jsonschema
import pytest
import tyro
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from c3l_ray import __version__, stop_jobs
from c3l_ray.config import GenerateConfig
from c3l_ray.stopping import GRACE_S

ROOT = Path(__file__).parent.parent.parent
MANIFEST = ROOT / "cluster" / "kuberay" / "rayjob.yaml"
KUEUE_MANIFEST = MANIFEST.parent / "rayjob-kueue.yaml"
DOCKERFILE = (ROOT / "cluster" / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KEYWORDS = {"type", "enum", "pattern", "minimum", "maximum", "minItems", "maxItems", "required"}
KEYWORDS |= {"minLength", "maxLength", "minProperties", "maxProperties", "uniqueItems"}

ListErrors = Callable[[dict[str, Any]], list[str]]
"""Of the fixture `list_errors`: what the definition of a manifest's kind has against it."""


def make_strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A CRD's openAPIV3Schema as a JSON schema that allows no field which it does not name."""
    strict = {key: value for key, value in schema.items() if key in KEYWORDS}
    if schema.get("x-kubernetes-int-or-string"):
        strict["type"] = ["integer", "string"]
    if "items" in schema:
        strict["items"] = make_strict(schema["items"])
    if "properties" in schema:
        strict["properties"] = {
            name: make_strict(field) for name, field in schema["properties"].items()
        }
    additional = schema.get("additionalProperties")
    if additional is not None:
        is_schema = isinstance(additional, dict)
        strict["additionalProperties"] = make_strict(additional) if is_schema else additional
    elif "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    if schema.get("nullable"):
        return {"anyOf": [strict, {"type": "null"}]}
    return strict


def find_crds() -> list[Path]:
    """KubeRay's definitions, which lie beside the checkout or where C3L_CRDS says."""
    folder = Path(os.environ.get("C3L_CRDS", ROOT.parent / "shared" / "crds"))
    return sorted(folder.glob("ray.io_*.yaml.xz"))


@pytest.fixture(scope="module")
def list_errors() -> ListErrors:
    """Checks a manifest against the definition of its kind."""
    crds = find_crds()
    if not crds:
        pytest.skip("KubeRay's CRDs are not here: neither ../shared/crds nor C3L_CRDS has them")
    validators = {}
    for path in crds:
        with lzma.open(path) as file:
            crd = yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        for version in crd["spec"]["versions"]:
            name = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
            schema = make_strict(version["schema"]["openAPIV3Schema"])
            validators[name] = jsonschema.Draft202012Validator(schema)

    def list_errors_of(manifest: dict[str, Any]) -> list[str]:
        validator = validators[manifest["apiVersion"], manifest["kind"]]
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]

    return list_errors_of


def read_manifest() -> dict[str, Any]:
    return dict(yaml.safe_load(MANIFEST.read_text()))


def list_pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def find_versions(name: str) -> SpecifierSet:
    """The versions of a package that pyproject.toml allows."""
    extras = PROJECT["optional-dependencies"]
    requirements = map(Requirement, [*PROJECT["dependencies"], *extras["gpu"]])
    return next(requirement.specifier for requirement in requirements if requirement.name == name)


@pytest.mark.parametrize("path", [MANIFEST, KUEUE_MANIFEST], ids=lambda path: path.stem)
def test_the_manifest_is_strictly_valid(path: Path, list_errors: ListErrors) -> None:
    assert list_errors(dict(yaml.safe_load(path.read_text()))) == []


def test_the_manifest_for_kueue_differs_in_the_queue_and_the_clean_up() -> None:
    """Kueue takes a job that shuts its cluster down, and KubeRay no deletion rules beside that."""
    job, of_kueue = read_manifest(), dict(yaml.safe_load(KUEUE_MANIFEST.read_text()))
    assert of_kueue["metadata"].pop("labels") == {"kueue.x-k8s.io/queue-name": "QUEUE"}
    assert of_kueue["spec"].pop("shutdownAfterJobFinishes") is True
    assert of_kueue["spec"].pop("ttlSecondsAfterFinished") > 0
    del job["spec"]["deletionStrategy"]
    assert of_kueue == job


def test_the_head_stays_off_nodes_that_may_be_taken_away() -> None:
    head, *workers = list_pods(read_manifest())
    rule = head["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = rule["nodeSelectorTerms"]
    # NotIn takes nodes without the label; several keys of one term must all hold.
    assert {expression["operator"] for expression in term["matchExpressions"]} == {"NotIn"}
    spot = {one["key"]: one["values"] for one in term["matchExpressions"]}
    assert spot["karpenter.sh/capacity-type"] == ["spot"]
    assert spot["cloud.google.com/gke-spot"] == ["true"]
    assert not any("affinity" in worker for worker in workers)


MISTAKES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a mistyped field": (
        lambda job: job["spec"].update(preRunningDeadlineSecond=60),
        "preRunningDeadlineSecond",
    ),
    "a mistyped field of a container": (
        lambda job: list_pods(job)[1]["containers"][0].update(volumeMount=[]),
        "volumeMount",
    ),
    "a wrong type": (lambda job: job["spec"].update(backoffLimit="3"), "'3' is not of type"),
    "a number as a start parameter": (
        lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"].update(
            rayStartParams={"num-cpus": 0}
        ),
        "0 is not of type 'string'",
    ),
    "a container without a name": (
        lambda job: list_pods(job)[0]["containers"][0].pop("name"),
        "'name' is a required property",
    ),
    "an invalid quantity": (
        lambda job: list_pods(job)[1]["volumes"][0]["emptyDir"].update(sizeLimit="4 GB"),
        "'4 GB' does not match",
    ),
    "an unknown mode of authentication": (
        lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="password"),
        "'password' is not one of",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_of_the_manifest_finds_a_mistake(mistake: str, list_errors: ListErrors) -> None:
    make_mistake, message = MISTAKES[mistake]
    job = copy.deepcopy(read_manifest())
    make_mistake(job)
    (error,) = list_errors(job)
    assert message in error


def test_a_failed_cluster_is_made_again_and_none_outlives_its_use() -> None:
    spec = read_manifest()["spec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode")
    assert spec["backoffLimit"] > 0 and spec["preRunningDeadlineSeconds"] > 0
    assert spec["activeDeadlineSeconds"] >= 24 * 3600  # a bound, and none on a long job
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    # The operator refuses deletion rules beside these.
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & {*spec}
    seconds_of_policy: dict[tuple[str, str], int] = {}
    for rule in spec["deletionStrategy"]["deletionRules"]:
        condition = dict(rule["condition"])
        seconds = condition.pop("ttlSeconds")
        ((_, end),) = condition.items()  # the operator takes one of the two statuses
        seconds_of_policy[end, rule["policy"]] = seconds
    assert {end for end, policy in seconds_of_policy if policy == "DeleteCluster"} == {
        *("SUCCEEDED", "FAILED", "Failed")
    }
    for end in ("FAILED", "Failed"):  # GPUs go back, and the logs stay for the morning
        assert seconds_of_policy[end, "DeleteWorkers"] == 0
        assert seconds_of_policy[end, "DeleteCluster"] >= 24 * 3600


def test_the_entrypoint_is_a_command_that_the_job_takes_and_its_pools_fill_the_workers() -> None:
    job = read_manifest()
    command = shlex.split(job["spec"]["entrypoint"])
    *wrapper, name, _ = command[:5]
    flags = command[4:]
    assert wrapper == ["python", "-m", "c3l_ray.kuberay_job"] and name == "jobs.generate"
    # KubeRay puts the entrypoint into a script of its own: a shell's operators would act there.
    assert not {"|", "&", ";", "$", "`", ">", "<"} & {*job["spec"]["entrypoint"]}
    config = tyro.cli(GenerateConfig, args=flags)
    assert all(path.startswith("s3://") for path in (*config.input, config.output))
    pools = config.pools
    assert pools.generator_gpus and pools.scorer_gpus  # decided before any worker is there
    assert pools.generators and pools.scorers
    needed_gpus = pools.generators * pools.generator_gpus + pools.scorers * pools.scorer_gpus
    worker_gpus = sum(
        group["replicas"]
        * int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    )
    assert needed_gpus == worker_gpus


def test_the_head_does_no_work_and_every_node_has_credentials_and_shared_memory() -> None:
    job = read_manifest()
    head, *workers = list_pods(job)
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for pod in (head, *workers):
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "c3l-ray"}}]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    for worker in workers:
        volumes = {volume["name"]: volume for volume in worker["volumes"]}
        (mount,) = worker["containers"][0]["volumeMounts"]
        assert mount["mountPath"] == "/dev/shm"
        assert volumes[mount["name"]]["emptyDir"]["medium"] == "Memory"


def find_seconds(pod: dict[str, Any]) -> int:
    return int(pod["terminationGracePeriodSeconds"])


def test_a_job_has_time_to_end_before_its_pods_are_deleted() -> None:
    """The head's pod asks it to, and the workers' wait for as long as the head answers."""
    head, *workers = list_pods(read_manifest())
    command = head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:3] == ["python", "-m", stop_jobs.__name__]
    assert GRACE_S + 30 <= float(command[3]) <= find_seconds(head) - 30
    for worker in workers:
        bash, option, script = worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert find_seconds(worker) >= find_seconds(head)
        with socket.create_server(("127.0.0.1", 0)) as server:  # in place of the head
            script = script.replace("/6379", f"/{server.getsockname()[1]}")
            environment = {**os.environ, "FQ_RAY_IP": "127.0.0.1"}
            waiting = subprocess.Popen([bash, option, script], env=environment, stderr=DEVNULL)
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(2.5)
        assert waiting.wait(10) == 0


def test_no_container_runs_as_root_or_may_become_it() -> None:
    assert "chown=1000:100" in DOCKERFILE
    for pod in list_pods(read_manifest()):
        of_pod = pod["securityContext"]
        assert of_pod["runAsNonRoot"] and of_pod["runAsUser"] == 1000
        (container,) = pod["containers"]
        of_container = container["securityContext"]
        assert not of_container["allowPrivilegeEscalation"]
        assert of_container["capabilities"] == {"drop": ["ALL"]}


def read_all(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFEST.parent / name).read_text()))


def find_labels_of_pods() -> list[dict[str, str]]:
    """The labels of the head's and the workers' pods: those of the manifest, and KubeRay's."""
    cluster = read_manifest()["spec"]["rayClusterSpec"]
    groups = [("head", cluster["headGroupSpec"])]
    groups += [("worker", group) for group in cluster["workerGroupSpecs"]]
    return [
        {**group["template"]["metadata"]["labels"], "ray.io/node-type": kind}
        for kind, group in groups
    ]


def count_selected(selector: dict[str, Any]) -> int:
    wanted = selector["matchLabels"].items()
    return sum(wanted <= labels.items() for labels in find_labels_of_pods())


def test_what_stands_around_the_pods_selects_them() -> None:
    *budgets, policy = read_all("protection.yaml")
    assert [budget["apiVersion"] for budget in budgets] == ["policy/v1"] * 2
    of_head, of_workers = (budget["spec"] for budget in budgets)
    assert of_head["selector"]["matchLabels"]["ray.io/node-type"] == "head"
    assert [count_selected(spec["selector"]) for spec in (of_head, of_workers)] == [1, 1]
    groups = read_manifest()["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert of_workers["minAvailable"] == sum(group["replicas"] for group in groups) - 1
    assert of_head["minAvailable"] >= 100  # heads of the namespace

    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    spec = policy["spec"]
    assert count_selected(spec["podSelector"]) == 2 and spec["policyTypes"] == ["Ingress"]
    nodes, dashboard, metrics = spec["ingress"]
    assert nodes == {"from": [{"podSelector": spec["podSelector"]}]}  # at every port
    submitter = {"podSelector": {"matchLabels": {"job-name": read_manifest()["metadata"]["name"]}}}
    assert submitter in dashboard["from"] and dashboard["ports"] == [{"port": 8265}]
    head = list_pods(read_manifest())[0]["containers"][0]
    assert {"name": "dashboard", "containerPort": 8265} in head["ports"]
    assert metrics["ports"] == [{"port": 8080}]

    (monitor,) = read_all("podmonitor.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert count_selected(monitor["spec"]["selector"]) == 2
    assert [end["port"] for end in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]


def test_a_budget_counts_what_kubernetes_can_count() -> None:
    """Pods of a RayCluster, which has no `scale`, take an integer minAvailable and nothing else."""
    files = [path for path in (ROOT / "cluster").rglob("*.yaml") if path.parent.name != "grafana"]
    documents = [
        document for path in files for document in yaml.safe_load_all(path.read_text()) if document
    ]
    budgets = [one for one in documents if one["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 2
    for budget in budgets:
        assert "maxUnavailable" not in budget["spec"]
        assert type(budget["spec"]["minAvailable"]) is int


def test_manifest_image_and_project_name_the_same_versions() -> None:
    ray = re.findall(r"^ARG RAY=(\S+)$", DOCKERFILE, re.MULTILINE)[0]
    job = read_manifest()
    assert find_versions("ray").contains(ray)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray
    tag = f"c3l-ray:{__version__}-ray{ray}"
    images = {pod["containers"][0]["image"].rpartition("/")[2] for pod in list_pods(job)}
    assert images == {tag}
    for file in (DOCKERFILE, (ROOT / "cluster" / "README.md").read_text()):
        assert set(re.findall(r"c3l-ray:[\w.-]+", file)) == {tag}

    base = re.findall(r"^FROM rayproject/ray:\$\{RAY\}-py(\d)(\d+)-gpu$", DOCKERFILE, re.MULTILINE)
    assert SpecifierSet(PROJECT["requires-python"]).contains(".".join(base[0]))
    # vLLM and torch come by the project's own pins: the image installs it with its GPU extra.
    assert 'c3l-ray[gpu]"' in DOCKERFILE and "ray[data,train,default]==${RAY}" in DOCKERFILE
    assert all(str(find_versions(name)).startswith("==") for name in ("vllm", "torch"))


def test_everything_that_the_image_copies_exists_and_is_not_ignored() -> None:
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    allowed = (ROOT / "cluster" / "Dockerfile.dockerignore").read_text().split()
    assert names == {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert all((ROOT / name).exists() for name in names)
    packages = {"c3l_ray", "jobs"}
    assert packages <= names
