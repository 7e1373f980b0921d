"""Goal: the chart in deploy/kubernetes gives what Kubernetes takes and what the services take, and refuses the rest.

Method: helm renders it with the values of ci/; each container's settings go through the service's own `--check`.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "kubernetes"
PLAIN, FULL = CHART / "ci" / "plain-values.yaml", CHART / "ci" / "full-values.yaml"
SERVICES = ("iterate", "chatd", "validated")
# The oldest that the chart takes, and the newest whose schemas the package has.
KUBERNETES = ("1.29", "1.37")
OURS = ("LAKEHOUSE_", "VALIDATED_", "CHATD_", "ITERATE_", "LAKE_")

HELM = shutil.which("helm", path=f"{ROOT / '.tools' / 'bin'}:{os.environ.get('PATH', '')}")
VALIDATE = ROOT / ".tools" / "kubernetes" / "bin" / "kubernetes-validate"
needs_schemas = pytest.mark.skipif(
    not VALIDATE.exists(), reason=".tools/kubernetes, of requirements/kubernetes.txt, is missing (.ci/run makes it)"
)
pytestmark = pytest.mark.skipif(HELM is None, reason="helm is not on PATH (.ci/run installs it)")

Document = dict[str, Any]


def template(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A helm that was built without a version of its own takes the cluster for one of long ago.
    return helm("template", "staging", str(CHART), "--kube-version", KUBERNETES[0], *arguments)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM or "", *arguments], capture_output=True, text=True, check=False)


@functools.cache
def rendered(values: Path, *arguments: str) -> list[Document]:
    done = template("--namespace", "office", "--values", str(values), *arguments)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module", params=[PLAIN, FULL], ids=["plain", "full"])
def values(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def documents(values: Path) -> list[Document]:
    return rendered(values)


@pytest.fixture(scope="module")
def full() -> list[Document]:
    return rendered(FULL)


def of_kind(documents: list[Document], *kinds: str) -> dict[str, Document]:
    """By the service, or whatever they are a part of."""
    return {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: document
        for document in documents
        if document["kind"] in kinds
    }


def workloads(documents: list[Document]) -> dict[str, Document]:
    return of_kind(documents, "Deployment", "StatefulSet")


def pod_of(workload: Document) -> Document:
    pod: Document = workload["spec"]["template"]["spec"]
    return pod


def containers_of(workload: Document) -> dict[str, Document]:
    pod = pod_of(workload)
    return {each["name"]: each for each in (*pod.get("initContainers", ()), *pod["containers"])}


def environ_of(container: Document) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


@pytest.mark.parametrize("given", [[], ["--values", str(PLAIN)], ["--values", str(FULL)]], ids=["", "plain", "full"])
def test_helm_finds_nothing_to_say_against_it(given: list[str]) -> None:
    done = helm("lint", "--strict", str(CHART), *given)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


def schema_problems(documents: list[Document], folder: Path) -> str:
    """Return what the schemas of Kubernetes have against them; empty where that is nothing."""
    # The Prometheus operator's own are none of Kubernetes.
    native = [each for each in documents if not each["apiVersion"].startswith("monitoring.coreos.com/")]
    file = folder / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(native), encoding="utf-8")
    versions = [argument for version in KUBERNETES for argument in ("--kubernetes-version", version)]
    command = [str(VALIDATE), "--strict", "--quiet", *versions, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not done.stdout + done.stderr), done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_schemas
def test_every_object_fits_the_schemas_of_kubernetes(documents: list[Document], tmp_path: Path) -> None:
    kinds = {document["kind"] for document in documents}

    assert {"StatefulSet", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"} <= kinds
    assert schema_problems(documents, tmp_path) == ""


@needs_schemas
def test_a_member_that_kubernetes_does_not_know_would_be_found(tmp_path: Path) -> None:
    service = copy.deepcopy(of_kind(rendered(PLAIN), "Service")["chatd"])
    service["spec"]["clusterIp"] = "None"

    assert "clusterIp" in schema_problems([service], tmp_path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("iterate.replica=2", "replica"),
        ("iterate.replicas=0", "replicas"),
        ("iterate.env.ITERATE_SESSION_MS_MAX=60000", "ITERATE_SESSION_MS_MAX"),
        ("drain.endMs=1000", "endMs"),
        ("metrics.port=50051", "port"),
        ("iterate.volume.size=big", "size"),
        ("image.digest=latest", "digest"),
        ("iterate.publisher.every=often", "every"),
        ("drain.delayMs=5000", "drain.delayMs, 5000, is below 1.1 connectionAgeMs and 5000, 16000"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(setting: str, said: str) -> None:
    done = template("--values", str(PLAIN), "--set", setting)

    assert done.returncode != 0
    assert said in done.stderr


def test_without_a_roster_it_says_what_to_set() -> None:
    done = template()

    assert done.returncode != 0
    assert "validated has no roster: set validated.roster.volume" in done.stderr


def test_every_default_has_a_rule_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(values: Document, rules: Document, path: str) -> None:
        assert rules["additionalProperties"] is False, path
        assert set(values) == set(rules["properties"]) - {"global"}, path
        for name, value in values.items():
            if "properties" in rules["properties"][name]:
                compare(value, rules["properties"][name], f"{path}.{name}")

    compare(defaults, schema, "")


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Make what the pods find under /etc/lakehouse, and the other folders that they have, here."""
    folder = tmp_path / "etc"
    for name in ("config", "tls", "secrets", "roster"):
        (folder / name).mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "roster" / "workers.csv", folder / "roster")
    for name in ("sessions", "spill", "cache"):
        (tmp_path / name).mkdir()
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout tls.key -out tls.crt -days 2"
    subprocess.run(["openssl", *command.split(), "-subj", "/CN=x"], cwd=folder / "tls", check=True, capture_output=True)
    shutil.copy(folder / "tls" / "tls.crt", folder / "tls" / "ca.crt")
    return folder


def secret(name: str) -> str:
    """Return what such a setting's file holds."""
    if name.endswith("_CALLERS__FILE"):
        service = name.partition("_")[0].lower()
        rpc = {"iterate": "Iterate", "chatd": "Complete", "validated": "Validate"}[service]
        models = 'models = ["*"]\n' if service != "validated" else ""
        return f'[callers.office]\ncertificates = ["dns:office.example"]\nrpcs = ["{rpc}"]\nkinds = ["*"]\n{models}'
    return "postgresql://roster@127.0.0.1:1/roster\n" if "CONNINFO" in name else "secret\n"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on PATH")
@pytest.mark.parametrize("service", SERVICES)
def test_what_a_pod_gets_is_a_configuration_that_its_service_takes(
    documents: list[Document], service: str, etc: Path
) -> None:
    for document in of_kind(documents, "ConfigMap").values():
        (etc / "config" / "lakehouse.toml").write_text(document["data"]["lakehouse.toml"], encoding="utf-8")
    here = {
        "/etc/lakehouse": etc,
        "/var/lib/lakehouse/gateway": etc.parent / "sessions",
        "/var/spool/lakehouse": etc.parent / "spill",
        "/var/cache/lakehouse": etc.parent / "cache",
    }
    environ = environ_of(containers_of(workloads(documents)[service])[service])
    for name, value in environ.items():
        for there, folder in here.items():
            environ[name] = environ[name].replace(there, str(folder))
        if "/etc/lakehouse/secrets/" in value:
            file = Path(environ[name])
            file.parent.mkdir(exist_ok=True)
            file.write_text(secret(name), encoding="utf-8")
    # A tracing host goes with its keys; and no port of this machine is asked for.
    if f"{service.upper()}_TRACING__SECRET_KEY_FILE" in environ:
        environ |= {"ITERATE_TRACING__HOST": "http://langfuse:3000", "ITERATE_TRACING__PUBLIC_KEY": "pk-lf-x"}
    environ |= {f"{service.upper()}_BIND": "127.0.0.1:0", f"{service.upper()}_METRICS_PORT": "0"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}

    done = subprocess.run(
        [sys.executable, "-m", service, "--check"], env=kept | environ, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_iterate_finds_every_replica_of_the_other_two_by_a_headless_service(documents: list[Document]) -> None:
    environ = environ_of(containers_of(workloads(documents)["iterate"])["iterate"])
    services = of_kind(documents, "Service")

    for hop in ("chatd", "validated"):
        host, port = environ[f"ITERATE_{hop.upper()}"].removeprefix("dns:///").split(":")
        assert host.split(".")[:3] == [services[hop]["metadata"]["name"], "office", "svc"]
        assert {"port": int(port), "targetPort": "grpc"}.items() <= services[hop]["spec"]["ports"][0].items()
    assert all(service["spec"]["clusterIP"] == "None" for service in services.values())
    assert workloads(documents)["iterate"]["spec"]["serviceName"] == services["iterate"]["metadata"]["name"]


def test_whatever_selects_pods_selects_those_of_its_service(documents: list[Document]) -> None:
    for service, workload in workloads(documents).items():
        labels = workload["spec"]["template"]["metadata"]["labels"].items()
        selectors = [
            workload["spec"]["selector"]["matchLabels"],
            of_kind(documents, "Service")[service]["spec"]["selector"],
            of_kind(documents, "PodDisruptionBudget")[service]["spec"]["selector"]["matchLabels"],
            of_kind(documents, "NetworkPolicy")[service]["spec"]["podSelector"]["matchLabels"],
            pod_of(workload)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        ]
        for selector in selectors:
            assert selector.items() <= labels
            assert selector["app.kubernetes.io/component"] == service


def test_a_pod_has_the_time_that_its_drain_takes_and_clients_leave_before_they_are_refused(
    documents: list[Document],
) -> None:
    for service, workload in workloads(documents).items():
        container = containers_of(workload)[service]
        environ = environ_of(container)
        sleep, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
        delay_ms, drain_ms, age_ms = (
            int(environ[f"{service.upper()}_{name}"]) for name in ("DRAIN_DELAY_MS", "DRAIN_MS", "CONNECTION_AGE_MS")
        )

        assert sleep == "sleep"
        least_ms = float(seconds) * 1000 + delay_ms + drain_ms + 5_000
        assert pod_of(workload)["terminationGracePeriodSeconds"] * 1000 >= least_ms
        # tests/server/test_drain_of_a_replica.py shows what these two are for.
        assert delay_ms >= 1.1 * age_ms + 5_000


def test_the_kubelet_asks_by_grpc_and_where_tls_is_on_the_image_asks_itself() -> None:
    for values, kind in ((PLAIN, "grpc"), (FULL, "exec")):
        for service, workload in workloads(rendered(values)).items():
            container = containers_of(workload)[service]
            ready, alive = container["readinessProbe"], container["livenessProbe"]
            if kind == "grpc":
                assert ready["grpc"] == {"port": 50051}
                assert alive["grpc"] == {"port": 50051, "service": "liveness"}
            else:
                assert ready["exec"]["command"][1:3] == ["-m", "lakehouse.server.health_probe"]
                assert alive["exec"]["command"] == [*ready["exec"]["command"], "--liveness"]
                name = environ_of(container)["LAKEHOUSE_SERVER_NAME"]
                assert name == f"gateway-{service}.office.svc.cluster.example"
            assert container["startupProbe"].keys() & {kind}


def mounts(workload: Document) -> Iterator[tuple[str, str]]:
    for container in containers_of(workload).values():
        for mount in container["volumeMounts"]:
            yield mount["name"], mount["mountPath"]


def test_every_file_that_a_setting_names_is_mounted_from_a_volume_that_is_there(documents: list[Document]) -> None:
    for workload in workloads(documents).values():
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())]
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        assert {name for name, _ in mounts(workload)} == {*volumes, *claims}
        for container in containers_of(workload).values():
            folders = [mount["mountPath"] for mount in container["volumeMounts"]]
            for name, value in environ_of(container).items():
                if value.startswith("/"):
                    assert any(value.startswith(f"{folder}/") or value == folder for folder in folders), (name, value)
                if value.startswith("/etc/lakehouse/secrets/"):
                    items = [
                        (source["secret"]["name"], item["key"], item["path"])
                        for source in volumes["secrets"]["projected"]["sources"]
                        for item in source["secret"]["items"]
                    ]
                    path = value.removeprefix("/etc/lakehouse/secrets/")
                    assert (*path.split("/"), path) in items
                    assert len(items) == len(set(items))


def test_no_secret_stands_in_an_object(full: list[Document]) -> None:
    text = json.dumps(full)

    assert not [document for document in full if document["kind"] == "Secret"]
    for container in (each for workload in workloads(full).values() for each in containers_of(workload).values()):
        assert not [each for each in container["env"] if "secretKeyRef" in json.dumps(each)]
    assert not re.search(r"api_key\\?\"?\s*[:=]|password", text)


def test_nothing_runs_as_root_or_writes_where_it_should_not(documents: list[Document]) -> None:
    for workload in workloads(documents).values():
        pod = pod_of(workload)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
        assert pod["automountServiceAccountToken"] is False
        for container in containers_of(workload).values():
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_each_iterate_has_a_volume_and_its_publisher_beside_it(full: list[Document]) -> None:
    workload = workloads(full)["iterate"]
    containers = containers_of(workload)
    publisher = containers["publisher"]

    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert workload["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    log = environ_of(containers["iterate"])["ITERATE_SESSION_LOG_PATH"]
    assert environ_of(publisher)["LAKEHOUSE_SESSION_LOG"] == log
    for container in containers.values():
        assert {"name": "sessions", "mountPath": str(Path(log).parent)} in container["volumeMounts"]
    # It starts before iterate and ends after it.
    assert publisher["restartPolicy"] == "Always"
    assert publisher["args"] == ["lakehouse", "sessions", "publish", "--every", "60s", "--rotate-after", "10m"]
    (host,) = [each for each in publisher["env"] if each["name"] == "LAKE_HOST"]
    assert host["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_without_the_publisher_there_is_none() -> None:
    assert list(containers_of(workloads(rendered(PLAIN))["iterate"])) == ["iterate"]


def test_only_those_who_are_named_reach_a_service(documents: list[Document]) -> None:
    policies = of_kind(documents, "NetworkPolicy")
    assert set(policies) == set(SERVICES)
    for service, policy in policies.items():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy["spec"]["ingress"]:
            assert rule["from"], "an empty one lets everybody in"
            assert [port["port"] for port in rule["ports"]] in (["grpc"], ["metrics"])
        if service != "iterate":
            callers = policy["spec"]["ingress"][0]["from"]
            selected = callers[0]["podSelector"]["matchLabels"]
            assert selected["app.kubernetes.io/component"] == "iterate"
        assert all(rule.get("ports") for rule in policy["spec"]["egress"]), "a rule without ports opens everything"


def test_where_nobody_may_call_nobody_does() -> None:
    nobody = ("--set", "networkPolicy.callers=null", "--set-json", "networkPolicy.metricsFrom=[]")
    policy = of_kind(rendered(PLAIN, *nobody), "NetworkPolicy")["iterate"]

    assert policy["spec"]["ingress"] == []


def test_prometheus_finds_the_port_that_the_services_have(full: list[Document]) -> None:
    (monitor,) = [document for document in full if document["kind"] == "ServiceMonitor"]
    (endpoint,) = monitor["spec"]["endpoints"]
    for service in of_kind(full, "Service").values():
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        (port,) = [each for each in service["spec"]["ports"] if each["name"] == endpoint["port"]]
        assert port["port"] == 9464
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_without_metrics_nothing_of_them_is_left() -> None:
    documents = rendered(FULL, "--set", "metrics.port=0")

    assert "metrics" not in json.dumps([each for each in documents if each["kind"] != "ConfigMap"]).lower()


def test_the_image_is_the_one_that_the_values_name() -> None:
    plain = {
        container["image"] for each in workloads(rendered(PLAIN)).values() for container in containers_of(each).values()
    }
    full = {
        container["image"] for each in workloads(rendered(FULL)).values() for container in containers_of(each).values()
    }

    assert plain == {"lakehouse-iterate:0.1.0"}
    assert full == {f"registry.example.com/lakehouse/iterate@sha256:{'a' * 64}"}


def test_the_chart_is_of_the_release_that_it_starts() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)

    assert chart["appVersion"] == chart["version"] == version
