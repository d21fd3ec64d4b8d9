"""The image, the compose file and the Kubernetes job, checked as far as no cluster and no daemon is needed."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.templating import apply_values

from deployments.catalog import POOL
from deployments.cli import app
from deployments.prefect_settings import CLIENT

ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "deployments"
INSTRUCTIONS = [
    (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
    for line in re.sub(r"\\\n\s*", "", (ROOM / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOM / "compose.yaml").read_text())
TEMPLATE: dict[str, Any] = json.loads((ROOM / "kubernetes.json").read_text())


def test_the_image_copies_what_is_there_and_what_the_build_may_see() -> None:
    kept = {line[1:] for line in (ROOM / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [source for word, rest in INSTRUCTIONS if word == "COPY" for source in rest.split()[:-1]]
    assert set(copied) == kept
    for source in copied:
        assert (ROOT / source).exists(), source
    assert {"pipelines", "tasks", "flows", "deployments", "pyproject.toml", "constraints.txt"} <= set(copied)


def test_the_image_runs_as_nobody_special_and_installs_by_the_constraints() -> None:
    words = [word for word, _ in INSTRUCTIONS]
    assert words[0] == "FROM" and words.count("FROM") == 1 and words[-1] == "CMD"
    assert words.index("USER") > max(index for index, word in enumerate(words) if word == "RUN")
    install = next(rest for word, rest in INSTRUCTIONS if word == "RUN" and "pip install" in rest)
    assert "--constraint constraints.txt" in install
    extras = re.search(r"\.\[(\w+)\]", install)
    assert extras and extras[1] in (ROOT / "pyproject.toml").read_text()
    environment = dict(pair.split("=") for word, rest in INSTRUCTIONS if word == "ENV" for pair in rest.split())
    own = {name: value for name, value in CLIENT.items() if "EPHEMERAL" not in name}  # its runs have a server
    assert own.items() <= environment.items()


def test_compose_names_services_and_commands_that_exist() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"database", "server", "deployments", "worker", "worker-gpu", "endpoint"}
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            assert needed in services, f"{name} waits for {needed}"
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is reached from this host alone"
        command = service.get("command", [])
        if command[:1] == ["gristmill"]:
            app[command[1]].parse_args(command[2:], exit_on_error=False, print_error=False)
        elif command:
            assert command == ["prefect", "worker", "start", "--pool", POOL]
    server = services["server"]
    assert f"prefect:{server['environment']['PREFECT_HOME']}" in server["volumes"], (
        "leases live as long as the database"
    )
    assert services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_compose_holds_no_secret_and_asks_for_each() -> None:
    text = (ROOM / "compose.yaml").read_text()
    for name in ("PASSWORD", "AUTH", "API_KEY"):
        assert re.search(rf"\$\{{\w*{name}:\?", text), f"{name} has no default"
    assert shlex.split(text.splitlines()[1].removeprefix("#   export "))[0].startswith("DATABASE_PASSWORD=")


def rendered(**values: Any) -> dict[str, Any]:
    """Return the job that Prefect's Kubernetes worker would create with these variables."""
    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    variables = {
        name: item["default"] for name, item in TEMPLATE["variables"]["properties"].items() if "default" in item
    }
    given = {**variables, "env": dict(CLIENT), "labels": {"team": "data"}, "name": "full", **values}
    made = KubernetesWorkerJobConfiguration(**apply_values(TEMPLATE["job_configuration"], given))
    manifest: dict[str, Any] = made.job_manifest
    return manifest


@pytest.mark.filterwarnings("default")
def test_the_kubernetes_job_has_gpus_shared_memory_and_the_store() -> None:
    manifest = rendered(gpus=4, memory="128Gi", shared_memory="32Gi", store_claim="lake")
    pod = manifest["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "128Gi", "nvidia.com/gpu": 4}
    mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
    assert mounts == {"store": "/store", "shared-memory": "/dev/shm"}
    volumes = {item["name"]: item for item in pod["volumes"]}
    assert volumes["store"]["persistentVolumeClaim"]["claimName"] == "lake"
    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "32Gi"}
    assert (manifest["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never"), "a retry is Prefect's"
    assert "{{" not in json.dumps(manifest).replace("{{ command }}", "")


@pytest.mark.filterwarnings("default")
def test_the_kubernetes_job_has_only_fields_that_kubernetes_knows() -> None:
    from kubernetes_asyncio.client import models

    def check(value: Any, kind: str, where: str) -> None:
        if listed := re.match(r"(?:list|List)\[(\w+)\]", kind):
            for number, item in enumerate(value):
                check(item, listed[1], f"{where}.{number}")
        elif model := getattr(models, kind, None):
            known = {model.attribute_map[name]: of for name, of in model.openapi_types.items()}
            for name, item in value.items():
                assert name in known, f"{where}.{name} is no field of {kind}"
                check(item, known[name], f"{where}.{name}")

    manifest = rendered(command="prefect flow-run execute", node_selector={"gpu": "h100"})
    manifest["spec"]["template"]["spec"]["containers"][0].update(env=[{"name": "A", "value": "1"}], args=["prefect"])
    check(manifest, "V1Job", "job")


def test_every_variable_of_the_kubernetes_job_is_used_and_described() -> None:
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    variables = TEMPLATE["variables"]["properties"]
    assert used == set(variables)
    assert all(item["title"] and item["description"] for item in variables.values())
