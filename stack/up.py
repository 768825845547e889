"""`candlewire up`: starts everything at once, tells when each room is ready, keeps it running, stops it in order."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TextIO

from market.stream import Stream
from runtime.clock import SystemClock, sleep_s
from runtime.symbol_choice import forget_choices
from stack import check, credentials, leftovers, ports, status
from stack.cron import Cron
from stack.layout import ROOT, Layout
from stack.program import EngineError, Program, python_child
from stack.rooms import PORT_NAMES, RunPlan, addresses, prepare_engines, rooms
from stack.source import resolve
from stack.supervise import Supervisor

#: Rooms and engines may take 5 and 3 s, one after the other (supervise.py). With the wait for what is killed less
#: than the ten seconds of the contract.
STOP_DEADLINE_S = 8.5
KILL_WAIT_S = 1.0
TICK_STARTING_S = 0.2
TICK_READY_S = 1.0
REVIVE_EVERY_S = 2.0
EXPLAIN_AFTER_S = 15.0
MAX_SYMBOLS_SHOWN = 20
TAKE_ATTEMPTS = 20
TAKE_RETRY_S = 0.05


class AlreadyRunningError(Exception):
    """Another `candlewire up` holds this DATA_DIR."""


def up(environment: Mapping[str, str], *, engines_only: bool = False, new_symbols: bool = False) -> int:
    """Run the stack until a signal. Returns the exit code: 0 stopped, 1 it could not run, 2 settings."""
    layout = Layout(_data_dir(environment))
    if status.running_pid(layout) is not None:
        raise AlreadyRunningError(f"already running with DATA_DIR={layout.data_dir} (pid {status.running_pid(layout)})")
    if layout.run.exists() and leftovers.find(layout):
        print("waiting for the last of an earlier run", flush=True)
        leftovers.outlive(layout)
    checked = check.check(environment)
    layout.create()
    with open(layout.lock, "a+", encoding="utf-8") as lock:
        _take(lock, layout)
        leftovers.clear(layout)
        if new_symbols:
            forget_choices(layout.data_dir)
        return _Run(layout, checked, engines_only=engines_only).run()


def _data_dir(environment: Mapping[str, str]) -> Path:
    """DATA_DIR, needed before the ports can be judged. Raises SettingsError naming everything, misspelt names too."""
    try:
        return check.read(environment).data_dir
    except check.SettingsError:
        check.check(environment)
        raise


def _take(lock: TextIO, layout: Layout) -> None:
    for _ in range(TAKE_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # `candlewire status` holds it for the moment of its question.
            sleep_s(TAKE_RETRY_S)
    else:
        raise AlreadyRunningError(f"already running with DATA_DIR={layout.data_dir}")
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


class _Run:
    """One run, from the start to the last process gone."""

    def __init__(self, layout: Layout, checked: check.Checked, *, engines_only: bool) -> None:
        self._layout = layout
        self._checked = checked
        self._engines_only = engines_only
        self._clock = SystemClock()
        self._stopping = False
        #: A signal ends the wait between two looks.
        self._woken, self._wake = socket.socketpair()
        self._block: ports.Block | None = None
        self._told_ready: set[str] = set()
        self._told_reason: dict[str, str] = {}
        self._starts: dict[str, int] = {}
        self._all_ready = False
        self._topics: subprocess.Popen[bytes] | None = None
        self._topics_applied = False

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        began_s = self._clock.monotonic_s()
        try:
            plan, programs = self._prepare()
        except EngineError:
            # Ctrl-C reaches the programs that prepare the engines, too.
            if not self._stopping:
                raise
        if self._stopping:
            self._say("stopped before anything was started")
            return 0
        environment = plan.environment()
        supervisor = Supervisor(self._layout, programs, plan.ports["supervisor"], plan.credentials.supervisor)
        supervisor.start(environment)
        cron = None if self._engines_only else Cron(self._layout, environment, self._clock)
        try:
            code = self._watch(plan, programs, supervisor, began_s, cron)
        finally:
            signal.set_wakeup_fd(-1)
            self._stop(supervisor, cron)
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _prepare(self) -> tuple[RunPlan, list[Program]]:
        """Choose ports, make engines and source ready at the same time, write down what runs."""
        settings = self._checked.settings
        secrets = credentials.load(self._layout.secrets)
        chosen, self._block = ports.choose(PORT_NAMES, self._layout.ports, (settings.port, settings.stream_port))
        with ThreadPoolExecutor(1) as pool:
            resolving = pool.submit(resolve, settings, chosen["exchange_sim"])
            programs = prepare_engines(self._layout, self._checked, chosen, secrets)
            source = resolving.result()
        plan = RunPlan(self._checked, source, chosen, secrets, addresses(self._checked, chosen, secrets))
        if not self._engines_only:
            programs += rooms(source, chosen)
        self._describe(plan, programs)
        label = {"sim": "SIMULATED market", "tape": f"TAPE {settings.tape}"}.get(source.name, source.rest_url)
        self._say(f"source: {source.name} ({label}), symbols: {settings.symbols}")
        if source.note:
            self._say(source.note)
        if Stream.KLINE_1S not in settings.streams.split(","):
            self._say(
                "STREAMS has no kline_1s: no rows are stored and no candles made; pages show the exchange's history"
            )
        return plan, programs

    def _describe(self, plan: RunPlan, programs: list[Program]) -> None:
        found = plan.description(programs, self._layout) | {"topics_applied": self._topics_applied}
        fresh = self._layout.description.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        fresh.rename(self._layout.description)

    def _watch(
        self, plan: RunPlan, programs: list[Program], supervisor: Supervisor, began_s: float, cron: Cron | None
    ) -> int:
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        revived_s = began_s
        rooms_told = plan.description(programs, self._layout)["rooms"]
        assert isinstance(rooms_told, list)
        while not self._stopping:
            now_s = self._clock.monotonic_s()
            if not supervisor.is_running():
                self._say(f"the supervisor has died; see {self._layout.logs / 'supervisord.out'}")
                return 1
            if not self._topics_applied:
                self._apply_topics(plan, programs)
            if not self._all_ready:
                found = status.rooms_status(self._layout, rooms_told, plan.ports)
                self._tell(found, now_s - began_s)
                waiting = [room.name for room in found if plan.source.name == "binance" and room.waits_for_exchange]
                if self._topics_applied and all(room.ready or room.name in waiting for room in found):
                    self._all_ready = True
                    self._tell_ready(plan, now_s - began_s)
                    if waiting:
                        self._say(f"waiting for the exchange: {', '.join(waiting)}")
            if now_s - revived_s >= REVIVE_EVERY_S:
                revived_s = now_s
                for name in supervisor.revive():
                    self._say(f"{name}: ends again and again, trying on; see {self._layout.log(name)}")
            self._tell_restarts(programs)
            if cron is not None and self._all_ready:
                cron.run_due()
            select.select([self._woken], [], [], TICK_READY_S if self._all_ready else TICK_STARTING_S)
        return 0

    def _apply_topics(self, plan: RunPlan, programs: list[Program]) -> None:
        """Compare topics with the file, in a process beside; again until it succeeds. Differences are shown."""
        if self._topics is None:
            command = [*python_child(), "--die", "KILL", "--", sys.executable, "-m", "runtime.topic_admin", "apply"]
            self._topics = subprocess.Popen(
                command, env=plan.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, cwd=ROOT,
            )  # fmt: skip
            return
        if self._topics.poll() is None:
            return
        output = self._topics.communicate()[0].decode()
        code, self._topics = self._topics.returncode, None
        for line in output.splitlines():
            self._say(f"topic {line}")
        # 1 = something cannot be altered (it was shown); anything else is a failure to reach the broker.
        if code == 0 or (code == 1 and output):
            self._topics_applied = True
            self._describe(plan, programs)

    def _tell(self, found: list[status.RoomStatus], since_s: float) -> None:
        for room in found:
            if room.ready and room.name not in self._told_ready:
                self._told_ready.add(room.name)
                self._say(f"{room.name}: ready ({since_s:.1f} s)")
            elif not room.ready and since_s > EXPLAIN_AFTER_S:
                self._explain(room)

    def _explain(self, room: status.RoomStatus) -> None:
        """The first reason of a room that takes long, once for each kind of reason (the text before the colon)."""
        reason = room.reason.partition(";")[0]
        if self._told_reason.get(room.name) != reason.partition(":")[0]:
            self._told_reason[room.name] = reason.partition(":")[0]
            self._say(f"{room.name}: not ready: {reason}")

    def _tell_restarts(self, programs: list[Program]) -> None:
        for program in programs:
            starts = max(1, len(status.starts_of(self._layout, program.name)))
            if starts > self._starts.get(program.name, 1):
                self._say(f"{program.name}: ended, started again (restart {starts - 1})")
            self._starts[program.name] = starts

    def _tell_ready(self, plan: RunPlan, since_s: float) -> None:
        self._say(f"READY ({since_s:.1f} s)")
        settings = self._checked.settings
        if not self._engines_only:
            self._say(f"  web       http://127.0.0.1:{settings.port}/")
            self._say(f"  stream    ws://127.0.0.1:{settings.stream_port}/live")
            self._say(f"  exchange  {plan.source.ws_url}  {plan.source.rest_url}")
            names = status.symbols(self._layout, plan.description([], self._layout))
            if names != settings.symbols.split(","):
                self._say(
                    f"  symbols   {','.join(names[:MAX_SYMBOLS_SHOWN])}" + ",..." * (len(names) > MAX_SYMBOLS_SHOWN)
                )
        where = plan.addresses.database_url.rpartition("@")[2]
        self._say(f"  database  {where} (passwords: `candlewire status --json`)")
        self._say(f"  kafka     {plan.addresses.kafka_bootstrap_servers}")

    def _stop(self, supervisor: Supervisor, cron: Cron | None) -> None:
        """Upkeep, rooms, then engines, all within STOP_DEADLINE_S; then whatever is left is killed."""
        self._say("stopping")
        deadline_s = self._clock.monotonic_s() + STOP_DEADLINE_S
        if self._topics is not None:
            self._topics.kill()
            self._topics.wait()
        supervisor.ask_to_stop()
        if cron is not None:
            cron.stop()
        while supervisor.is_running() and self._clock.monotonic_s() < deadline_s:
            sleep_s(0.05)
        if supervisor.is_running():
            self._say("the deadline has passed: killing what still runs")
            supervisor.kill()
        leftovers.kill(leftovers.find(self._layout), KILL_WAIT_S)
        self._say("stopped")

    @staticmethod
    def _say(line: str) -> None:
        print(line, flush=True)


def run(environment: Mapping[str, str], *, engines_only: bool = False, new_symbols: bool = False) -> int:
    """up(), with every way to fail told in words."""
    try:
        return up(environment, engines_only=engines_only, new_symbols=new_symbols)
    except check.SettingsError as error:
        sys.stderr.write("Nothing was started:\n" + "".join(f"  {problem}\n" for problem in error.problems))
        return 2
    except AlreadyRunningError as error:
        sys.stderr.write(f"Nothing was started: {error}\n")
        return 2
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return 1
