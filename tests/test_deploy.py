"""Goal: the compose file and the image recipe say what they should. No docker engine is needed: both are read."""

from __future__ import annotations

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

from chatd.config import ChatdConfig
from iterate.config import IterateConfig
from lakehouse.server.config import ServerTable, load
from validated.config import ValidatedTable

ROOT = Path(__file__).resolve().parent.parent
OURS: dict[str, type[ServerTable]] = {"validated": ValidatedTable, "chatd": ChatdConfig, "iterate": IterateConfig}
SETTINGS = ("LAKEHOUSE_", "VALIDATED_", "CHATD_", "ITERATE_")
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def langfuse_env() -> dict[str, str]:
    printed = subprocess.run(
        [sys.executable, ROOT / "deploy/langfuse_env.py"], capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split("=", 1) for line in printed.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("service", OURS)
def test_each_services_environment_is_a_configuration_that_it_takes(compose: dict[str, Any], service: str) -> None:
    environ = {name: VARIABLE.sub(r"\2", value) for name, value in compose["services"][service]["environment"].items()}

    config = load(service, OURS[service], file=None, environ=environ)

    assert config.bind == "0.0.0.0:50051"
    assert not config.tracing.host


@pytest.mark.parametrize("service", OURS)
def test_with_the_langfuse_profile_each_service_has_host_and_keys(
    compose: dict[str, Any], langfuse_env: dict[str, str], service: str
) -> None:
    environment = compose["services"][service]["environment"]
    environ = {name: VARIABLE.sub(lambda found: langfuse_env[found[1]], value) for name, value in environment.items()}

    tracing = load(service, OURS[service], file=None, environ=environ).tracing

    assert tracing.host == "http://langfuse-web:3000"
    assert tracing.public_key == langfuse_env["LANGFUSE_PUBLIC_KEY"]
    assert tracing.secret_key.get_secret_value() == langfuse_env["LANGFUSE_SECRET_KEY"]


def test_every_variable_of_the_compose_file_is_made_by_the_env_script(langfuse_env: dict[str, str]) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    assert {name for name, _ in VARIABLE.findall(text)} == set(langfuse_env) - {"COMPOSE_PROFILES"} | {"LAKEHOUSE_PORT"}
    assert all(langfuse_env.values())
    assert re.fullmatch("[0-9a-f]{64}", langfuse_env["LANGFUSE_ENCRYPTION_KEY"])


def test_the_start_order_is_gated_on_health(compose: dict[str, Any]) -> None:
    services = compose["services"]

    assert services["iterate"]["depends_on"] == {
        "validated": {"condition": "service_healthy"},
        "chatd": {"condition": "service_healthy"},
    }
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, (name, needed)
            assert how["condition"] == "service_healthy"
            # Ours take their health check from the image.
            assert needed in OURS or "healthcheck" in services[needed]


def test_the_stack_of_langfuse_stays_away_unless_asked_for(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert (service.get("profiles") == ["langfuse"]) == name.startswith("langfuse-")


def test_every_image_is_pinned_and_only_loopback_is_published(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        if "image" in service and "build" not in service:
            assert ":" in service["image"]
            assert not service["image"].endswith(":latest")
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_named_volume_is_declared(compose: dict[str, Any]) -> None:
    used = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "/"))
    }

    assert used == set(compose["volumes"])


@pytest.mark.parametrize("service", OURS)
def test_each_service_passes_its_own_check_as_compose_starts_it(
    compose: dict[str, Any], service: str, tmp_path: Path
) -> None:
    said = compose["services"][service]["environment"]
    environ = {name: VARIABLE.sub(r"\2", value) for name, value in said.items()}
    # The paths of the container, here.
    for name, value in environ.items():
        environ[name] = value.replace("/etc/lakehouse/roster", str(ROOT / "examples/roster")).replace(
            "/var/lib/lakehouse/gateway", str(tmp_path)
        )
    environ |= {f"{service.upper()}_BIND": "127.0.0.1:0", f"{service.upper()}_METRICS_PORT": "0"}

    done = check(service, environ)

    assert done.returncode == 0, done.stderr


def check(service: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`--check` of a service with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return subprocess.run(
        [sys.executable, "-m", service, "--check"], env=kept | environ, capture_output=True, text=True, check=False
    )


def test_the_chatd_env_of_the_readme_passes_the_check_and_its_model_may_see_candidates() -> None:
    (block,) = re.findall(r"^```\n(CHATD_DEFAULT_PROVIDER.*?)^```", README, re.MULTILINE | re.DOTALL)
    environ = dict(line.split("=", 1) for line in block.splitlines())

    done = check("chatd", environ | {"CHATD_BIND": "127.0.0.1:0"})
    config = load("chatd", ChatdConfig, file=None, environ=environ)

    assert done.returncode == 0, done.stderr
    assert config.providers[config.default_target].sees_candidates


def test_the_override_of_the_readme_passes_the_check(tmp_path: Path, compose: dict[str, Any]) -> None:
    (block,) = re.findall(r"^```yaml\n(services:.*?)^```", README, re.MULTILINE | re.DOTALL)
    override = yaml.safe_load(block)
    environ = dict(override["services"]["chatd"]["environment"])
    assert override["services"].keys() <= compose["services"].keys()
    assert [f"/run/secrets/{name}" for name in override["services"]["chatd"]["secrets"]] == [
        value for name, value in environ.items() if name.endswith("_FILE")
    ]
    assert override["secrets"].keys() == set(override["services"]["chatd"]["secrets"])
    (tmp_path / "openai").write_text("sk-none\n")
    environ["CHATD_PROVIDERS__OPENAI__API_KEY_FILE"] = str(tmp_path / "openai")

    done = check("chatd", environ | {"CHATD_BIND": "127.0.0.1:0"})

    assert done.returncode == 0, done.stderr


def test_every_service_has_limits_of_memory_and_log(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[1-9]\d*[mg]", service["mem_limit"]), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["restart"] == "unless-stopped", name


def test_a_drain_ends_before_compose_kills(compose: dict[str, Any]) -> None:
    for service, model in OURS.items():
        environment = compose["services"][service]["environment"]
        environ = {name: VARIABLE.sub(r"\2", value) for name, value in environment.items()}
        config = load(service, model, file=None, environ=environ)

        (grace_s,) = re.findall(r"^(\d+)s$", compose["services"][service]["stop_grace_period"])

        # What is left is for the ends of calls that were cut, queued rows and spans.
        assert config.drain_delay_ms + config.drain_ms + 5_000 <= int(grace_s) * 1000


def test_the_three_are_one_image_and_each_says_which_service_it_is(compose: dict[str, Any]) -> None:
    for service in OURS:
        assert compose["services"][service]["image"] == "lakehouse-iterate"
        assert compose["services"][service]["build"] == "."
        assert compose["services"][service]["command"] == [service]
        assert "container_name" not in compose["services"][service], "it could not be scaled"
    # Several of these could not share a port of the machine.
    assert not any("ports" in compose["services"][service] for service in ("chatd", "validated"))


def test_metrics_are_on_and_reachable_from_the_network_alone(compose: dict[str, Any]) -> None:
    for service in OURS:
        environment = compose["services"][service]["environment"]
        assert environment[f"{service.upper()}_METRICS_PORT"] == "9464"
        assert environment[f"{service.upper()}_METRICS_HOST"] == "0.0.0.0"
        assert not any("9464" in port for port in compose["services"][service].get("ports", []))


def test_langfuse_listens_on_every_address_and_a_browser_reaches_its_media(compose: dict[str, Any]) -> None:
    services = compose["services"]
    web, worker = services["langfuse-web"]["environment"], services["langfuse-worker"]["environment"]

    assert web["HOSTNAME"] == worker["HOSTNAME"] == "0.0.0.0"
    # Links are followed by a browser on this machine; what the worker itself does, it does on the stack's network.
    host, port = web["LANGFUSE_S3_MEDIA_UPLOAD_ENDPOINT"].removeprefix("http://").split(":")
    assert host == "localhost"
    assert f"127.0.0.1:{port}:9000" in services["langfuse-minio"]["ports"]
    for endpoint in (worker["LANGFUSE_S3_MEDIA_UPLOAD_ENDPOINT"], web["LANGFUSE_S3_EVENT_UPLOAD_ENDPOINT"]):
        assert endpoint == "http://langfuse-minio:9000"
    shared = set(worker)
    assert {name: web[name] for name in shared if "MEDIA_UPLOAD_ENDPOINT" not in name} == {
        name: worker[name] for name in shared if "MEDIA_UPLOAD_ENDPOINT" not in name
    }


def test_every_store_of_langfuse_keeps_its_data_in_a_volume(compose: dict[str, Any]) -> None:
    for store, folder in {
        "langfuse-postgres": "/var/lib/postgresql/data",
        "langfuse-clickhouse": "/var/lib/clickhouse",
        "langfuse-redis": "/data",
        "langfuse-minio": "/data",
    }.items():
        assert f"{store}:{folder}" in compose["services"][store]["volumes"]
    redis = compose["services"]["langfuse-redis"]["command"]
    assert redis[redis.index("--appendonly") + 1] == "yes"
    assert redis[redis.index("--maxmemory-policy") + 1] == "noeviction"


def test_the_image_runs_as_nobody_in_particular_and_probes_itself() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert "--gid 10001" in DOCKERFILE
    assert "--uid 10001" in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE
    assert "lakehouse.server.health_probe" in DOCKERFILE
    for source in copied():
        assert (ROOT / source).exists(), source


def copied() -> list[str]:
    """Return what of the repository goes into the image."""
    return " ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)).split()


def test_images_of_one_service_each_share_every_layer() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("ARG SERVICE") :].splitlines()

    assert last == ["ARG SERVICE=", "ENV SERVICE=${SERVICE}"]
    assert DOCKERFILE.count("ARG SERVICE") == 1


def test_the_base_is_one_exact_release_for_both_stages_and_no_pip_stays() -> None:
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]
    build, final = DOCKERFILE.split("\nFROM ")[1:]
    assert "venv --without-pip" in build
    assert re.search(r"pip uninstall --yes .*\bpip setuptools wheel", final)
    assert "ensurepip" in final


def test_the_engine_is_sent_what_the_recipe_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
    # The exceptions come first, since the last rule that fits decides.
    assert {"**/__pycache__", "**/.*", "**/*.key", "**/*.pem", "**/*.jsonl", "**/*.log", "**/*.env"} <= set(
        rules[1 + len(copied()) :]
    )


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Any]:
    """Run the image's entrypoint with a `python` that prints what it would run, and its binds."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase $1 in -c) exec {sys.executable} "$@" ;; esac\n'
        'echo "$@"; printenv | grep _BIND= | sort; exit 0\n'
    )
    python.chmod(0o755)

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROOT / "deploy/entrypoint.sh", *arguments],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    yield run
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        ((), {}, "nothing says which one to run"),
        ((), {"SERVICE": ""}, "nothing says which one to run"),
        (("--check",), {}, "nothing says which one to run"),
        ((), {"SERVICE": "iterated"}, "SERVICE is iterated, which is no service"),
        (("iterated",), {"SERVICE": "iterate"}, "iterated is no service and no command"),
    ],
)
def test_a_container_without_a_service_says_so(
    container: Any, arguments: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    done = container(*arguments, **environ)

    assert done.returncode == 2
    assert said in done.stderr
    assert "iterate | chatd | validated" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("service", OURS)
def test_a_service_is_named_by_argument_or_variable_and_gets_the_rest(container: Any, service: str) -> None:
    bind = f"{service.upper()}_BIND=0.0.0.0:50051"

    assert container(service, "--check").stdout.splitlines() == [f"-m {service} --check", bind]
    assert container("--check", SERVICE=service).stdout.splitlines() == [f"-m {service} --check", bind]
    assert container(service, SERVICE="chatd").stdout.splitlines() == [f"-m {service}", bind]


def test_what_is_configured_of_bind_stands_in_a_container(container: Any, tmp_path: Path) -> None:
    silent, says = tmp_path / "a b.toml", tmp_path / "says.toml"
    silent.write_text('[iterate]\nbind = "127.0.0.1:1"\n[chatd]\ndrain_ms = 1\n')
    says.write_text('[chatd]\nbind = "127.0.0.1:7"\n')
    broken = tmp_path / "broken.toml"
    broken.write_text("[chatd\n")
    default = "CHATD_BIND=0.0.0.0:50051"

    assert container("chatd", CHATD_BIND="127.0.0.1:9").stdout.splitlines()[1:] == ["CHATD_BIND=127.0.0.1:9"]
    assert container("chatd", LAKEHOUSE_CONFIG=str(silent)).stdout.splitlines()[1:] == [default]
    assert container("chatd", LAKEHOUSE_CONFIG=str(says)).stdout.splitlines()[1:] == []
    assert container("chatd", "--config", str(says)).stdout.splitlines()[1:] == []
    assert container("chatd", f"--config={says}").stdout.splitlines()[1:] == []
    assert container("chatd", "--config", str(silent), LAKEHOUSE_CONFIG=str(says)).stdout.splitlines()[1:] == [default]
    # The service itself says what is wrong with it.
    assert container("chatd", LAKEHOUSE_CONFIG=str(broken)).stdout.splitlines() == ["-m chatd"]


@pytest.mark.parametrize("script", ["deploy/compose_check.sh", "deploy/entrypoint.sh", "deploy/ci_postgres.sh"])
def test_the_scripts_of_this_folder_are_whole_and_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK) or script.endswith("ci_postgres.sh")
    subprocess.run(["sh", "-n", ROOT / script], check=True)


def test_compose_check_says_what_is_missing_where_there_is_no_engine(tmp_path: Path) -> None:
    for name in ("sh", "dirname", "cat"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")

    done = subprocess.run(
        [ROOT / "deploy/compose_check.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "no container engine" in done.stderr
