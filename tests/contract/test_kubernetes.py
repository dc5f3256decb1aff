"""The manifests of configs/scale: what Kubernetes' own schema says, and whether they fit."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDER = CONFIGS / "scale" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((CONFIGS / "kustomization.yaml").read_text("utf-8"))
# Of a kind that the operator brings along, and so applied once that is there.
INSTRUMENTATION = yaml.safe_load((FOLDER / "instrumentation.yaml").read_text("utf-8"))
MANIFESTS = [
    manifest
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.stem != "instrumentation"
    for manifest in yaml.safe_load_all(path.read_text("utf-8"))
]


def named(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


BY_NAME = {named(manifest): manifest for manifest in MANIFESTS}
WORKLOADS = ["DaemonSet agent", "Deployment gateway"]


def pod(workload: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a workload's pod and its one container."""
    spec = BY_NAME[workload]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_kubernetes_would_take_it(manifest):
    """By the schema of the newest release, to the last field."""
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_all_of_it_is_applied_at_once():
    """`kubectl apply -k configs` names each file there is, and each file that it names is there."""
    paths = {path.relative_to(CONFIGS).as_posix() for path in FOLDER.glob("*.yaml")}
    assert set(KUSTOMIZATION["resources"]) == paths - {"scale/kubernetes/instrumentation.yaml"}
    files = [name for each in KUSTOMIZATION["configMapGenerator"] for name in each.get("files", [])]
    assert [name for name in files if not (CONFIGS / name).is_file()] == []


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_pod_needs_no_right(workload):
    """Not root, nothing to gain, no file system to write to, bounded memory: the namespace says so."""
    spec, container = pod(workload)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() == {"memory"}
    assert {*spec["volumes"][1], "name"} == {"name", "emptyDir"}
    enforced = BY_NAME["Namespace observability"]["metadata"]["labels"]
    assert enforced == {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_pod_reads_what_is_mounted(workload):
    """Each --config is a file of the ConfigMap that is generated for it."""
    spec, container = pod(workload)
    generated = {each["name"]: each for each in KUSTOMIZATION["configMapGenerator"]}
    name = spec["volumes"][0]["configMap"]["name"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "config")
    files = {f"--config={mount['mountPath']}/{Path(file).name}" for file in generated[name]["files"]}
    assert set(container["args"]) == files
    environment = [source["configMapRef"]["name"] for source in container.get("envFrom", [])]
    assert set(environment) <= generated.keys()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_pod_is_told_what_its_files_ask_for(workload):
    """Every variable that it is given is looked up by one of them."""
    spec, container = pod(workload)
    generated = {each["name"]: each for each in KUSTOMIZATION["configMapGenerator"]}
    files = generated[spec["volumes"][0]["configMap"]["name"]]["files"]
    asked = {
        name for file in files for name in re.findall(r"\{env:([A-Z_]+)", (CONFIGS / file).read_text("utf-8"))
    }
    told = {variable["name"] for variable in container["env"]}
    for source in container.get("envFrom", []):
        told |= {pair.partition("=")[0] for pair in generated[source["configMapRef"]["name"]]["literals"]}
    assert told - {"GOMEMLIMIT"} <= asked
    assert {name for name in asked if name.endswith(("_HOST", "_ENDPOINT", "_STORAGE"))} <= told


def test_whoever_is_called_is_there():
    """Services lead to ports of pods; agents ask for the name of gateways, and are let through."""
    for name in ("agent", "gateway"):
        service = BY_NAME[f"Service {name}"]["spec"]
        _, container = pod(next(workload for workload in WORKLOADS if workload.endswith(name)))
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert {port["port"] for port in service["ports"]} == {
            ports[port["targetPort"]] for port in service["ports"]
        }
    _, agent = pod("DaemonSet agent")
    told = {variable["name"]: variable["value"] for variable in agent["env"]}
    assert told["GATEWAY"].split(".")[:2] == ["gateway", KUSTOMIZATION["namespace"]]
    assert BY_NAME["Service gateway"]["spec"]["clusterIP"] == "None"
    open_to_agents = BY_NAME["NetworkPolicy gateway"]["spec"]["ingress"][0]["ports"]
    assert [port["port"] for port in open_to_agents] == [
        port["name"] for port in BY_NAME["Service gateway"]["spec"]["ports"]
    ]


def test_the_operator_sends_services_to_the_agent_of_their_node():
    """Under tercet, with the id that it carries."""
    agent = BY_NAME["Service agent"]
    endpoint = INSTRUMENTATION["spec"]["exporter"]["endpoint"]
    assert endpoint == f"http://{agent['metadata']['name']}.{KUSTOMIZATION['namespace']}:4318"
    assert agent["spec"]["internalTrafficPolicy"] == "Local"
    told = {variable["name"]: variable["value"] for variable in INSTRUMENTATION["spec"]["python"]["env"]}
    assert told["OTEL_PYTHON_DISTRO"] == told["OTEL_PYTHON_CONFIGURATOR"] == "tercet"
    assert told["OTEL_PROPAGATORS"].split(",")[-1] == "correlation"
