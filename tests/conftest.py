"""What every test may use: the real engines, started once per run; a fresh database; a whole stack; recorded data."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests import schedule
from tests.stack_process import ROOT, EnginesProcess, StackProcess

SHARED_DATA = ROOT.parent / "shared" / "data"
FORBID_SKIPS = bool(os.environ.get("CANDLEWIRE_FORBID_SKIPS"))
TEMPLATE = "candlewire_template"
MIGRATE_TIMEOUT_S = 120
_numbers = itertools.count(1)
_shared_stacks: list[StackProcess] = []


@dataclass(frozen=True)
class Engines:
    """Addresses of the running engines. Topics and migrations are applied; tests share them."""

    database_url: str
    analyst_database_url: str
    kafka_bootstrap_servers: str
    celery_broker_url: str
    data_dir: Path
    stack: EnginesProcess

    @property
    def environment(self) -> dict[str, str]:
        """What a room needs in its environment to use these engines."""
        return {
            **self.stack.environment,
            "DATABASE_URL": self.database_url,
            "ANALYST_DATABASE_URL": self.analyst_database_url,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "CELERY_BROKER_URL": self.celery_broker_url,
            "SECRET_KEY": "only-for-tests-" * 5,
            "HEALTH_PORT": "0",
        }


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """PostgreSQL, Kafka and Valkey, real ones, started once per run."""
    data_dir = tmp_path_factory.mktemp("engines")
    with EnginesProcess(data_dir, SOURCE="sim") as stack:
        found = stack.status()
        running = Engines(
            database_url=found["database_url"],
            analyst_database_url=found["analyst_database_url"],
            kafka_bootstrap_servers=found["kafka_bootstrap_servers"],
            celery_broker_url=found["celery_broker_url"],
            data_dir=data_dir,
            stack=stack,
        )
        migrate(running.environment)
        with psycopg.connect(with_database(running.database_url, "postgres"), autocommit=True) as connection:
            connection.execute(f"create database {TEMPLATE} template candlewire")
        yield running


def migrate(environment: dict[str, str]) -> None:
    """Apply the migrations to DATABASE_URL. Raises CalledProcessError with the output shown."""
    subprocess.run(
        [sys.executable, "-m", "webapp", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=MIGRATE_TIMEOUT_S,
    )


def _new_database(engines: Engines) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    server = with_database(engines.database_url, "postgres")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name} template {TEMPLATE}")
    yield with_database(engines.database_url, name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def fresh_database(engines: Engines) -> Iterator[str]:
    """URL of an empty database of this test's own, migrations applied."""
    yield from _new_database(engines)


@pytest.fixture(scope="module")
def module_database(engines: Engines) -> Iterator[str]:
    """URL of an empty database that the tests of one module share, migrations applied."""
    yield from _new_database(engines)


@pytest.fixture(scope="session")
def full_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """The whole product with the simulated market, started once per run by `candlewire up`."""
    # A shorter past: twelve days of it cost the simulated exchange up to a second of a processor a symbol.
    with StackProcess(tmp_path_factory.mktemp("full"), SOURCE="sim", SIM_HISTORY_DAYS="4") as stack:
        _shared_stacks.append(stack)
        yield stack


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> schedule.Schedule | None:
    """For `--dist loadfile`."""
    return schedule.Schedule(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order of the schedule, with one worker or several."""
    items.sort(key=lambda item: schedule.rank(item.nodeid.partition("::")[0]))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Behind the last file that shares the stack: stop it, though the run goes on."""
    if nextitem is None or not schedule.shares_stack(nextitem.nodeid.partition("::")[0]):
        while _shared_stacks:
            _shared_stacks.pop().stop()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of recorded real traffic, which lies beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the recorded data (../shared/data) are not on this machine")
    return SHARED_DATA


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where skips are forbidden, a skipped test is a failed one."""
    report = yield
    if FORBID_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CANDLEWIRE_FORBID_SKIPS is set: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    if FORBID_SKIPS and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, and CANDLEWIRE_FORBID_SKIPS is set"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Lines that a test wants to be read at the end (`record_property("last_line", ...)`)."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "last_line" and report.when == "call":
                terminalreporter.write_line(str(value))
