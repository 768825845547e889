"""How a stack starts, dies and stops: in order, within its deadline, without orphans, as root or as anybody."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from stack.layout import Layout
from stack.program import python_child
from tests.conftest import Engines
from tests.stack_process import CANDLEWIRE, ROOT, SHORT_PAST, EnginesProcess, StackProcess, free_port, wait_for

GONE_DEADLINE_S = 30.0
#: The ten seconds of the contract follow from bounds (tests/unit/test_stack_pieces.py) on a machine that can keep them.
STOP_WAIT_S = 30.0


class AsOrdinaryUser(EnginesProcess):
    """The engines started by somebody who is not root (nobody, in a user namespace, when we are root)."""

    @property
    def prefix(self) -> tuple[str, ...]:
        return (*python_child(), "--user", "userns", "--die", "TERM", "--") if os.geteuid() == 0 else ()


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process that was started with this DATA_DIR, however it is related."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("DATA_DIR") == str(data_dir)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def none_left(data_dir: Path) -> bool:
    return not processes_of(data_dir)


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[StackProcess]:
    """A whole stack of this test's own."""
    variables = {"SOURCE": "sim", "SYMBOLS": "top:3", "SIM_SYMBOLS": "20", "STREAMS": "kline_1s", **SHORT_PAST}
    with StackProcess(tmp_path / "stack", **variables) as stack:
        yield stack


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsOrdinaryUser]:
    """The engines of another DATA_DIR, which tests kill and stop in their order."""
    with AsOrdinaryUser(tmp_path_factory.mktemp("second") / "stack", SOURCE="sim") as stack:
        yield stack


def followed(stack: StackProcess) -> list[str]:
    """The symbols that the aggregator follows, in their order."""
    with stack.connect() as connection:
        query = "select symbol from market_symbol where is_followed order by rank"
        return [symbol for (symbol,) in wait_for("symbols", lambda: connection.execute(query).fetchall(), 60)]


def stored(stack: StackProcess) -> list[str]:
    """The symbols that the producer brings."""
    query = (
        "select array_agg(distinct symbol order by symbol) from kline_1s where source = 'stream' having count(*) > 9"
    )
    with stack.connect() as connection:
        found: list[str] = wait_for("rows", lambda: connection.execute(query).fetchone(), 60)[0]
        return found


@pytest.mark.timeout(400)
def test_kill_9_leaves_no_orphan_and_the_next_start_works(whole: StackProcess) -> None:
    assert len(processes_of(whole.data_dir)) > len(whole.status()["rooms"])
    symbols = whole.status()["symbols"]
    assert len(symbols) == 3
    assert followed(whole) == symbols, "what top:3 means is the same for every room"
    assert stored(whole) == sorted(symbols)
    whole.kill_up()
    wait_for("every process to be gone", lambda: none_left(whole.data_dir), GONE_DEADLINE_S)
    assert whole.command("status").returncode == 1

    whole.start()
    # A room that is busy for a moment does not answer within the half second that `status` gives it.
    wait_for("status 0", lambda: whole.command("status").returncode == 0, GONE_DEADLINE_S)
    assert whole.status()["symbols"] == symbols, "top:3 means the same after a restart"
    whole.send(signal.SIGTERM)
    assert whole.wait_ended(STOP_WAIT_S) == 0
    assert none_left(whole.data_dir)


def test_what_dies_is_started_again_and_counted(engines: Engines) -> None:
    before = engines.stack.room("valkey")
    pid = engines.stack.kill("valkey")
    after = engines.stack.wait_restarted("valkey", pid)
    assert after["restarts"] == before["restarts"] + 1


def test_an_ordinary_user_can_run_it(second: AsOrdinaryUser) -> None:
    postgres = psutil.Process(second.room("postgres")["pid"])
    wait_for("all to be ready", lambda: second.status()["ready"], GONE_DEADLINE_S)
    assert "--user" not in " ".join(postgres.cmdline())
    assert second.command("backup", "--json").returncode == 0
    assert [path.suffix for path in Layout(second.data_dir).backups.iterdir()] == [".dump"]


@pytest.mark.timeout(300)
def test_a_killed_supervisor_takes_everything_with_it_and_the_next_start_works(second: AsOrdinaryUser) -> None:
    supervisor = next(p for p in processes_of(second.data_dir) if "supervisor.supervisord" in p.cmdline())
    supervisor.kill()
    assert second.wait_ended(GONE_DEADLINE_S) == 1
    wait_for("every process to be gone", lambda: none_left(second.data_dir), GONE_DEADLINE_S)
    second.start()
    wait_for("all to be ready", lambda: second.status()["ready"], GONE_DEADLINE_S)


def test_two_stacks_run_side_by_side_and_one_data_dir_belongs_to_one(engines: Engines, second: AsOrdinaryUser) -> None:
    wait_for("all to be ready", lambda: second.status()["ready"], GONE_DEADLINE_S)
    wait_for("all to be ready", lambda: engines.stack.status()["ready"], GONE_DEADLINE_S)
    wait_for("the command to say the same", lambda: second.json("status", "--json") == second.status(), GONE_DEADLINE_S)
    assert not set(second.ports()) & set(engines.stack.ports())
    environment = second.environment | {"PORT": str(free_port()), "STREAM_PORT": str(free_port())}
    done = subprocess.run(
        [str(CANDLEWIRE), "up"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "already running" in done.stderr
    stopped = second.command("stop")
    assert stopped.stdout == "stopped\n"
    assert none_left(second.data_dir)


def test_topics_and_retention_come_from_the_broker(engines: Engines) -> None:
    topics = engines.stack.json("topics", "--json")["topics"]
    retention = engines.stack.json("retention", "--json")
    assert retention["check_interval_ms"] == 10_000
    assert {row["topic"] for row in topics} == {row["topic"] for row in retention["topics"]}
    assert {row["retention_ms"] for row in topics} == {900_000}
    assert {row["predicted_oldest_age_s"]["max"] for row in retention["topics"]} == {970}


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SOURCE": "nowhere", "SYMBOL": "BTCUSDT"}, ["SOURCE", "did you mean SYMBOLS?"]),
        ({"SOURCE": "tape", "TAPE": "there/is/none"}, ["TAPE", "cannot be read"]),
    ],
)
def test_settings_that_cannot_be_used_end_with_2_and_nothing_is_made(
    tmp_path: Path, variables: dict[str, str], named: list[str]
) -> None:
    environment = {**os.environ, **variables, "DATA_DIR": str(tmp_path / "stack"), "PORT": str(free_port())}
    done = subprocess.run(
        [str(CANDLEWIRE), "up"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert all(text in done.stderr for text in named), done.stderr
    assert not (tmp_path / "stack").exists()


def test_the_log_of_a_room_is_printed_and_an_unknown_room_named(engines: Engines) -> None:
    assert "Kafka Server started" in engines.stack.command("logs", "kafka").stdout
    unknown = engines.stack.command("logs", "kofka")
    assert unknown.returncode == 2
    assert "kafka" in unknown.stderr
