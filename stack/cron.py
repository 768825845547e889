"""Runs the lines of the repository's crontab, the same file that a deployed system gives to its own cron."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cronsim import CronSim, CronSimError

from runtime.clock import Clock
from stack.layout import CRONTAB, ROOT, Layout
from stack.program import python_child

LOG_BYTES = 5 * 1024 * 1024
JOB_TIMEOUT_S = 3_600
STOP_WAIT_S = 2


@dataclass
class Job:
    """One line: when, and what."""

    schedule: str
    command: str
    due_ms: int = 0
    running: subprocess.Popen[bytes] | None = None
    kill_at_s: float = field(default=0.0)


def parse(text: str) -> list[Job]:
    """The jobs of a crontab: five fields and a command a line; comments and NAME=value lines are passed over.

    Raises ValueError naming the line that cannot be read.
    """
    jobs = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or re.match(r"[A-Z_]+\s*=", stripped):
            continue
        parts = stripped.split(None, 5)
        if len(parts) < 6:
            raise ValueError(f"crontab line {number}: five fields and a command are needed")
        schedule = " ".join(parts[:5])
        try:
            CronSim(schedule, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"crontab line {number}: {error}") from None
        jobs.append(Job(schedule, parts[5]))
    return jobs


def next_due_ms(schedule: str, after_ms: int) -> int:
    """The first moment after `after_ms` (ms since the epoch) at which the schedule is due, in UTC."""
    after = datetime.fromtimestamp(after_ms // 1000, UTC)
    return int(next(CronSim(schedule, after)).timestamp() * 1000)


class Cron:
    """Starts each job when it is due, never twice at the same time."""

    def __init__(self, layout: Layout, environment: Mapping[str, str], clock: Clock, crontab: Path = CRONTAB) -> None:
        self._log = layout.log("cron")
        self._environment = dict(environment)
        self._clock = clock
        self._jobs = parse(crontab.read_text("utf-8")) if crontab.exists() else []
        for job in self._jobs:
            job.due_ms = next_due_ms(job.schedule, clock.now_ms())

    def run_due(self) -> None:
        """Start what is due; a job that still runs from the last time is left alone."""
        for job in self._jobs:
            try:
                self._look_at(job, self._clock.now_ms())
            except OSError as error:
                # A full disk, no process to be had: upkeep waits for its next time, whoever runs it goes on.
                sys.stderr.write(f"upkeep: {job.command}: {error}\n")

    def _look_at(self, job: Job, now_ms: int) -> None:
        if job.running is not None:
            self._look_at_running(job, job.running)
        if now_ms >= job.due_ms:
            job.due_ms = next_due_ms(job.schedule, now_ms)
            if job.running is None:
                self._start(job)

    def stop(self) -> None:
        """End what still runs, all jobs within STOP_WAIT_S together."""
        running = [job.running for job in self._jobs if job.running is not None and job.running.poll() is None]
        for process in running:
            process.terminate()
        deadline_s = self._clock.monotonic_s() + STOP_WAIT_S
        for process in running:
            try:
                process.wait(max(0.0, deadline_s - self._clock.monotonic_s()))
            except subprocess.TimeoutExpired:
                process.kill()

    def _look_at_running(self, job: Job, process: subprocess.Popen[bytes]) -> None:
        code = process.poll()
        if code is None:
            if self._clock.monotonic_s() > job.kill_at_s:
                process.kill()
            return
        job.running = None
        if code != 0:
            self._note(f"exit code {code}: {job.command}")

    def _start(self, job: Job) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        self._note(f"start: {job.command}")
        job.kill_at_s = self._clock.monotonic_s() + JOB_TIMEOUT_S
        with open(self._log, "ab") as output:
            job.running = subprocess.Popen(
                [*python_child(), "--die", "TERM", "--", "/bin/sh", "-c", f"exec {job.command}"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )

    def _note(self, text: str) -> None:
        moment = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).isoformat(timespec="seconds")
        with open(self._log, "a", encoding="utf-8") as file:
            file.write(f"{moment} {text}\n")
