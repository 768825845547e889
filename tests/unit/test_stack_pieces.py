"""The stack's pure pieces: ports, crontab, generated configuration, lock files."""

from __future__ import annotations

import configparser
import fcntl
import os
import shlex
import signal
import socket
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.clock import ManualClock
from stack import check, cli, cron, ports, status, supervise, up
from stack.backup import prune
from stack.doctor import locked_versions
from stack.engines import jars, kafka, valkey
from stack.engines.unprivileged import choose_user
from stack.layout import CRONTAB, SERVER_PROPERTIES, Layout
from stack.log_files import newest
from stack.program import EngineError, Program
from stack.status import RoomStatus
from stack.supervise import Supervisor, configuration
from tests.stack_process import free_port, wait_for


def test_chosen_ports_are_remembered_while_nobody_else_has_them(tmp_path: Path) -> None:
    names, remembered = ("kafka", "postgres", "valkey"), tmp_path / "ports.json"
    first, block = ports.choose(names, remembered, reserved=())
    assert len(set(first.values())) == 3
    block.hold.close()
    again, block = ports.choose(names, remembered, reserved=())
    assert again == first
    # Nobody listens yet, and still they belong to somebody.
    other, other_block = ports.choose(names, remembered, reserved=())
    assert not set(other.values()) & set(first.values())
    for held in (block, other_block):
        held.hold.close()
    with socket.socket() as server:
        server.bind(("127.0.0.1", other["postgres"]))
        server.listen()
        moved, block = ports.choose(names, remembered, reserved=())
    block.hold.close()
    assert not set(moved.values()) & set(other.values())


def test_a_reserved_port_and_a_damaged_memory_are_no_obstacle(tmp_path: Path) -> None:
    remembered = tmp_path / "ports.json"
    first, block = ports.choose(("kafka",), remembered, reserved=())
    block.hold.close()
    other, block = ports.choose(("kafka",), remembered, reserved=first.values())
    block.hold.close()
    assert other != first
    remembered.write_text("{not json")
    found, block = ports.choose(("kafka",), remembered, reserved=())
    block.hold.close()
    assert set(found) == {"kafka"}


def test_when_every_block_is_taken_the_range_is_named() -> None:
    within = range(30_000, 30_000 + ports.BLOCK_PORTS)
    held = ports.hold_block(within)
    with pytest.raises(RuntimeError, match="between 30000 and 30019"):
        ports.hold_block(within)
    held.hold.close()


def test_the_crontab_of_the_repository_can_be_read() -> None:
    jobs = cron.parse(CRONTAB.read_text())
    assert {job.command.split()[0] for job in jobs} <= {"candlewire", "python"}
    assert any(job.command == "candlewire backup" for job in jobs)


@pytest.mark.parametrize("line", ["* * * * backup", "61 * * * * candlewire backup", "@daily candlewire backup"])
def test_a_crontab_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="crontab line 2"):
        cron.parse(f"# comment\n{line}\n")


def test_a_job_is_due_at_the_next_matching_minute_utc() -> None:
    after = datetime(2026, 11, 21, 23, 59, 30, tzinfo=UTC)
    due_ms = cron.next_due_ms("7 0 * * *", int(after.timestamp() * 1000))
    assert datetime.fromtimestamp(due_ms / 1000, UTC) == datetime(2026, 11, 22, 0, 7, tzinfo=UTC)


def test_the_brokers_derived_configuration_differs_only_where_it_must(tmp_path: Path) -> None:
    record = SERVER_PROPERTIES.read_text()
    derived = kafka.derive(record, tmp_path / "data", kafka.KafkaOptions(29092, 29093, 5_000))
    changed = {
        new.partition("=")[0]: new.partition("=")[2]
        for old, new in zip(record.splitlines(), derived.splitlines(), strict=True)
        if old != new
    }
    assert changed == {
        "listeners": "PLAINTEXT://127.0.0.1:29092,CONTROLLER://127.0.0.1:29093",
        "advertised.listeners": "PLAINTEXT://127.0.0.1:29092",
        "controller.quorum.voters": "1@127.0.0.1:29093",
        "log.dirs": str(tmp_path / "data"),
        "log.retention.check.interval.ms": "5000",
    }


def test_a_file_of_record_without_a_needed_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"log\.dirs"):
        kafka.derive("listeners=x\n", tmp_path, kafka.KafkaOptions(1, 2, None))


def test_the_jar_lock_names_each_jar_once_with_its_digest() -> None:
    locked = jars.locked()
    assert len(locked) == len({(jar.group, jar.artifact) for jar in locked}) == 46
    assert all(len(jar.sha256) == 64 for jar in locked)
    assert {jar.version for jar in locked if jar.group == "org.apache.kafka"} == {"4.3.0"}


def test_a_damaged_jar_is_not_taken_for_intact(tmp_path: Path) -> None:
    jar = jars.parse_lock("a.b:c:1 sha256:" + "0" * 64)[0]
    assert jar.path == Path("a/b/c/1/c-1.jar")
    assert not jars.is_intact(jar, tmp_path)
    (tmp_path / jar.path).parent.mkdir(parents=True)
    (tmp_path / jar.path).write_bytes(b"x")
    assert not jars.is_intact(jar, tmp_path)


def test_valkey_listens_on_loopback_with_a_password_and_bounded_memory(tmp_path: Path) -> None:
    lines = valkey.configure(tmp_path, 1234, "secret").splitlines()
    assert {"bind 127.0.0.1", "port 1234", "requirepass secret", "maxmemory 64mb"} <= set(lines)


def test_the_supervisor_stops_rooms_before_engines_and_never_shows_a_percent_sign_it_would_expand(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path / "100% data dir")
    programs = [
        Program("postgres", ("/bin/postgres", "-c", "a=b c"), is_engine=True, stop_signal="INT", user="userns"),
        Program("producer", ("python", "-m", "producer"), environment={"HEALTH_PORT": "20001"}),
    ]
    parser = configparser.RawConfigParser()
    parser.read_string(configuration(layout, programs, 20_000, "pass%word"))
    assert parser.getint("group:rooms", "priority") > parser.getint("group:engines", "priority")
    assert parser.get("inet_http_server", "port") == "127.0.0.1:20000"
    assert parser.get("inet_http_server", "password") == "pass%%word"
    command = shlex.split(parser.get("program:postgres", "command").replace("%%", "%"))
    assert command[-3:] == ["/bin/postgres", "-c", "a=b c"]
    assert command[command.index("--die") + 1] == "INT"
    assert command[command.index("--user") + 1] == "userns"
    assert parser.get("program:producer", "environment") == 'HEALTH_PORT="20001"'


def test_a_full_disk_does_not_end_the_supervisor(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.logs.mkdir()
    layout.run.mkdir()
    for name in ("supervisord.log", "supervisord.out", "talker.log"):
        (layout.logs / name).symlink_to("/dev/full")
    # More than pipes and buffers hold: the last of it is said when somebody has read what came before.
    talk = (
        "import sys, pathlib; sys.stdout.write('x\\n' * 200_000); sys.stdout.flush(); pathlib.Path(sys.argv[1]).touch()"
    )
    program = Program("talker", (sys.executable, "-S", "-c", talk, str(tmp_path / "said")))
    supervisor = Supervisor(layout, [program], free_port(), "none")
    supervisor.start(dict(os.environ))
    try:
        wait_for("what is dropped", lambda: (tmp_path / "said").exists() or not supervisor.is_running(), 20.0)
        assert supervisor.is_running()
    finally:
        supervisor.kill()


def test_only_the_newest_dumps_are_kept(tmp_path: Path) -> None:
    for hour in range(9):
        (tmp_path / f"candlewire-20261121T0{hour}0000Z.dump").touch()
    (tmp_path / "of-somebody-else.dump").touch()
    removed = prune(tmp_path, kept=7)
    assert [path.name for path in removed] == [f"candlewire-20261121T0{hour}0000Z.dump" for hour in (0, 1)]
    assert len(list(tmp_path.glob("*.dump"))) == 8


def test_the_newest_lines_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n")
    assert list(newest(path, 2)) == ["two\n", "three\n"]
    assert list(newest(path, 0)) == []


def test_the_versions_of_a_lock_file() -> None:
    text = "a-b==1.2 \\\n    --hash=sha256:0\nc==3 ; sys_platform == 'win32' \\\n    --hash=sha256:1\n"
    assert locked_versions(text) == {"a-b": "1.2"}


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        ("c1: exchange cannot be reached: ws://127.0.0.1:9; starting", True),
        ("exchange: no answer; kafka: broker not reachable", False),
        ("starting", False),
        ("", False),
    ],
)
def test_a_room_that_lacks_only_the_exchange_is_told_from_one_that_lacks_more(reason: str, waits: bool) -> None:
    room = RoomStatus("producer", 1, "starting", False, 0, "http://127.0.0.1:1/healthz", "producer.log", reason)
    assert room.waits_for_exchange is waits


def test_nothing_listens_on_a_port_that_is_called_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_program_that_became_nobody_is_told_apart_from_root(tmp_path: Path) -> None:
    choice = choose_user(Path("/bin/true"), tmp_path)
    assert (choice is None) == (os.geteuid() != 0)


def test_when_root_can_become_nobody_else_the_message_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("stack.engines.unprivileged._try", lambda user, program: f"{user} is refused")
    with pytest.raises(EngineError, match=r"userns is refused(?s:.)*nobody is refused(?s:.)*ordinary user"):
        choose_user(Path("/bin/true"), None)


def test_all_rooms_are_asked_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms that hang cost `candlewire status` one time-out, not one each."""
    layout = Layout(tmp_path)
    layout.create()
    rooms = [{"name": f"room{number}", "health_url": "http://127.0.0.1:1/healthz", "log": "x"} for number in range(8)]
    for room in rooms:
        layout.starts(room["name"]).write_text(f"{os.getpid()}\n")
    all_asked = threading.Barrier(len(rooms), timeout=20)

    def hang(health_url: str) -> tuple[bool, str]:
        all_asked.wait()
        return False, "hangs"

    monkeypatch.setattr(status, "ask_ready", hang)
    found = status.rooms_status(layout, rooms, {})
    assert [(room.name, room.state, room.reason) for room in found] == [
        (room["name"], "starting", "hangs") for room in rooms
    ]


def test_a_question_for_the_status_does_not_keep_a_stack_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.create()
    with open(layout.lock, "a+") as asking, open(layout.lock, "a+") as starting:
        fcntl.flock(asking, fcntl.LOCK_SH)
        monkeypatch.setattr(up, "sleep_s", lambda _: fcntl.flock(asking, fcntl.LOCK_UN))
        up._take(starting, layout)
        assert status.running_pid(layout) == os.getpid()


def test_a_stop_while_engines_are_prepared_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C reaches initdb, too: that it fails then is nobody's error, and nothing is started."""
    run = up._Run(Layout(tmp_path), check.read({}, tmp_path / "none"), engines_only=True)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def interrupted() -> None:
        run._on_signal(2, None)
        raise EngineError("initdb failed")

    monkeypatch.setattr(run, "_prepare", interrupted)
    assert run.run() == 0


def test_a_stop_has_time_for_rooms_and_engines_and_keeps_the_contract() -> None:
    contract_s, exit_s = 10.0, 0.5
    assert supervise.ROOM_STOP_S + supervise.ENGINE_STOP_S < up.STOP_DEADLINE_S
    assert up.STOP_DEADLINE_S + up.KILL_WAIT_S + exit_s <= contract_s


def test_upkeep_that_runs_is_ended_with_the_stack(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    crontab = tmp_path / "crontab"
    crontab.write_text("* * * * * sleep 1000\n* * * * * sleep 1001\n")
    clock = ManualClock(1_795_219_200_000)
    jobs = cron.Cron(layout, os.environ, clock, crontab)
    clock.advance(60_000)
    jobs.run_due()
    started = [job.running for job in jobs._jobs]
    jobs.stop()
    assert all(process is not None and process.poll() is not None for process in started)


def test_upkeep_that_cannot_start_waits_for_its_next_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log that cannot be written (a full disk, here a missing directory) does not end whoever runs the upkeep."""
    crontab = tmp_path / "crontab"
    crontab.write_text("* * * * * true\n")
    clock = ManualClock(1_795_219_200_000)
    jobs = cron.Cron(Layout(tmp_path / "missing"), os.environ, clock, crontab)
    for _ in range(2):
        clock.advance(60_000)
        jobs.run_due()
    assert capsys.readouterr().err.count("upkeep: true: ") == 2


def test_a_passed_on_command_stays_where_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PWD may tell of another directory (cron, a program that changed it): relative file names go by the real one."""
    called: list[tuple[Path, list[str], str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", "/")
    monkeypatch.setenv("DATA_DIR", "data")
    monkeypatch.setattr(os, "execve", lambda *given: called.append((Path.cwd(), given[1][1:], given[2]["DATA_DIR"])))
    cli.pass_on("producer.record", ["--output", "x"])
    assert called == [(tmp_path, ["-m", "producer.record", "--output", "x"], str(tmp_path / "data"))]
