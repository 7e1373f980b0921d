"""Goal: the compose file and the image recipe say what they should. No docker engine is needed: both are read."""

from __future__ import annotations

import re
import subprocess
import sys
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

    assert {name for name, _ in VARIABLE.findall(text)} == set(langfuse_env) - {"COMPOSE_PROFILES"}
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
        if "image" in service:
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


def test_the_image_runs_as_nobody_in_particular_and_probes_itself() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert re.search(r"^ARG SERVICE$", text, re.MULTILINE)
    assert re.search(r"^USER lakehouse$", text, re.MULTILINE)
    assert "--require-hashes" in text
    assert "lakehouse.server.health_probe" in text
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
