"""docker-compose.yml, Dockerfile and crontab name only what exists, keep secrets out and publish only the web ports."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import typer.main

from runtime import health, probe, settings_table
from stack.cli import app
from stack.cron import parse
from stack.engines import valkey
from stack.program import python_child
from tests.integration.compose_file import (
    ROOT,
    MissingVariable,
    Service,
    dockerfile_stages,
    example_variables,
    filled_in,
    secret_names,
    services,
)
from tests.stack_process import free_port, wait_for

SERVICES = services(filled_in())
OURS = [service for service in SERVICES.values() if service.is_ours]
LASTING = [service for service in SERVICES.values() if not service.is_once]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")


def _names(found: list[Service]) -> list[str]:
    return [service.name for service in found]


def _variables_of(service: Service) -> set[str]:
    room = service.module.split(".")[0]
    modules = {"runtime.topic_admin": ["runtime.topic_admin"]}.get(
        service.module, ["runtime.settings", f"{room}.settings"]
    )
    return set(settings_table.variables(modules))


def test_every_room_has_a_service() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__main__.py")} - {"bench", "stack"}
    assert rooms == {service.module for service in OURS if "." not in service.module} - {""}
    assert {"kafka", "postgres", "valkey", "topics", "migrate", "cron"} <= set(SERVICES)


@pytest.mark.parametrize("service", OURS, ids=_names(OURS))
def test_the_module_of_the_command_exists(service: Service) -> None:
    path = ROOT.joinpath(*service.module.split("."))
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize("service", OURS, ids=_names(OURS))
def test_the_program_knows_every_variable_it_is_given(service: Service) -> None:
    assert set(service.environment) - _variables_of(service) == set()


@pytest.mark.parametrize("service", LASTING, ids=_names(LASTING))
def test_a_service_is_restarted_watched_and_bounded(service: Service) -> None:
    definition = service.definition
    assert definition["restart"] == "unless-stopped"
    assert definition["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert re.fullmatch(r"\d+[mg]", definition["mem_limit"])
    assert "no-new-privileges:true" in definition["security_opt"]


@pytest.mark.parametrize("service", OURS, ids=_names(OURS))
def test_our_services_are_confined(service: Service) -> None:
    assert service.definition["read_only"] is True
    assert service.definition["cap_drop"] == ["ALL"]
    assert "user" not in service.definition
    assert "privileged" not in service.definition


def test_the_health_check_asks_an_address_that_is_served() -> None:
    checks = {tuple(service.definition["healthcheck"]["test"]) for service in OURS if not service.is_once}
    assert checks == {("CMD", "python", "-m", "runtime.probe")}
    port = health.serve(health.Health("test"), 0)
    ran = subprocess.run(
        ["python3", "-m", "runtime.probe"], cwd=ROOT, env={"HEALTH_PORT": str(port)}, capture_output=True, check=False
    )
    assert (ran.returncode, json.loads(ran.stdout)["room"]) == (1, "test")
    assert probe.PATH == "/readyz"


def test_only_the_web_ports_are_published_and_on_loopback() -> None:
    published = {
        name: service.definition["ports"] for name, service in SERVICES.items() if "ports" in service.definition
    }
    assert published == {"flask_stream": ["127.0.0.1:5000:5000"], "webapp": ["127.0.0.1:8000:8000"]}
    assert SERVICES["webapp"].environment["PORT"] == "8000"
    assert SERVICES["flask_stream"].environment["STREAM_PORT"] == "5000"


def test_the_engines_are_not_reachable_from_outside() -> None:
    for name in ("kafka", "postgres", "valkey"):
        assert SERVICES[name].definition["networks"] == ["inside"]
    assert re.search(r"^  inside:\n    internal: true$", COMPOSE_TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(secret_names()))
def test_there_is_no_default_secret(name: str) -> None:
    with pytest.raises(MissingVariable):
        services(filled_in(**{name: ""}))
    assert not re.search(rf"\$\{{{name}(?!:\?)", COMPOSE_TEXT)


def test_the_task_broker_wants_its_password_and_shows_it_to_nobody(tmp_path: Path) -> None:
    service, port = SERVICES["valkey"], free_port()
    shell, option, script = service.command
    script = script.replace("<<END\n", f'<<END\nbind 127.0.0.1\nport {port}\ndir "{tmp_path}"\n')
    path = f"{valkey.binary().parent}:/usr/bin:/bin"
    command = [*python_child(), "--die", "KILL", "--", shell, option, script]
    process = subprocess.Popen(command, env=service.environment | {"PATH": path}, stdout=subprocess.DEVNULL)
    try:
        wait_for("valkey", lambda: valkey.is_ready(port), 20)
        password = service.environment["VALKEY_PASSWORD"]
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for request, answer in (("PING", b"-NOAUTH"), (f"AUTH {password}", b"+OK"), ("PING", b"+PONG")):
                connection.sendall(f"{request}\r\n".encode())
                assert connection.recv(200).startswith(answer)
        # The process itself, not a shell before it: it gets the signal that stops the container.
        shown = psutil.Process(process.pid).cmdline()
        assert Path(shown[0].split()[0]).name == "valkey-server"
        assert password not in " ".join(shown)
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_env_example_and_compose_know_the_same_variables() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE_TEXT))
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?", COMPOSE_TEXT))
    assert set(example_variables()) - used == {"COMPOSE_PROFILES"}
    assert required - set(example_variables()) == set()


def test_mounted_files_exist() -> None:
    mounts = [volume for service in SERVICES.values() for volume in service.definition.get("volumes", [])]
    files = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert files
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_broker_is_told_only_what_differs_from_its_file() -> None:
    text = (ROOT / "kafka" / "server.properties").read_text("utf-8")
    keys = {line.partition("=")[0] for line in text.splitlines() if line and not line.startswith("#")}
    told = {name for name in SERVICES["kafka"].environment if name != "KAFKA_HEAP_OPTS"}
    assert {name.removeprefix("KAFKA_").lower().replace("_", ".") for name in told} <= keys
    assert "listeners" in keys
    assert (
        "./kafka/server.properties:/mnt/shared/config/server.properties:ro" in SERVICES["kafka"].definition["volumes"]
    )


def test_dockerfile_copies_only_what_exists_and_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    sources = []
    for stage in dockerfile_stages():
        for name, rest in stage:
            if name == "COPY" and "--from" not in rest:
                sources += shlex.split(rest)[:-1]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert set(sources) - allowed == set()
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} - set(sources) == {"tests", "bench"}


def test_the_image_runs_as_an_ordinary_user_without_development_packages() -> None:
    *_, last = dockerfile_stages()
    users = [rest for name, rest in last if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert "requirements-dev" not in (ROOT / "Dockerfile").read_text("utf-8")
    assert len(_installs()) == 2
    assert all("--require-hashes" in part for part in _installs())


def _installs() -> list[str]:
    return [part for part in _run_commands() if "pip install" in part and " -e ." not in part]


def _run_commands() -> list[str]:
    text = " && ".join(rest for stage in dockerfile_stages() for name, rest in stage if name == "RUN")
    return [part.strip() for part in text.split("&&")]


def test_the_image_holds_every_package_compiled(tmp_path: Path) -> None:
    [command] = [part for part in _run_commands() if "compileall" in part]
    _python, *arguments = shlex.split(command)
    prefixed = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=prefixed, check=True, timeout=120)
    compiled = {path.name for path in Path(f"{tmp_path}{ROOT}").glob("[!.]*") if any(path.rglob("*.pyc"))}
    assert compiled == {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    [install] = [part for part in _installs() if "-r requirements.lock" in part]
    assert "--compile-bytecode" in install


def test_the_dockerfile_takes_uv_out_of_the_lock() -> None:
    found = re.search(r"sed -n '([^']+)' requirements\.lock", (ROOT / "Dockerfile").read_text("utf-8"))
    assert found is not None
    ran = subprocess.run(
        ["sed", "-n", found.group(1), "requirements.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.partition("==")[0] for line in ran.stdout.splitlines() if "==" in line] == ["uv"]


def test_every_line_of_the_crontab_names_a_command() -> None:
    jobs = parse((ROOT / "crontab").read_text("utf-8"))
    assert jobs
    commands = typer.main.get_group(app).commands
    for job in jobs:
        program, first, *_ = shlex.split(job.command)
        if program == "candlewire":
            assert first in commands
        else:
            assert (program, first) == ("python", "-m")
            assert (ROOT.joinpath(*job.command.split()[2].split("."))).with_suffix(".py").is_file()


def test_a_bad_crontab_line_is_found(tmp_path: Path) -> None:
    for line in ("* * * *", "61 * * * * candlewire backup"):
        with pytest.raises(ValueError, match="crontab line 1"):
            parse(line)
