"""The broker's classes, read and linked once for every later start (Java's AOT cache, JEP 514; Java 25 or newer).

`python -m stack.engines.class_archive` makes it: a throw-away broker is started and stopped, and Java writes down what
it has loaded. A start then takes half the time. Without it, the broker starts as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from runtime.clock import SystemClock, sleep_s
from stack import ports
from stack.engines import jars, kafka
from stack.engines.java import find_java, version_of
from stack.layout import CACHE, Layout
from stack.program import EngineError, python_child

LEAST_VERSION = 25
START_DEADLINE_S = 60.0
WRITE_DEADLINE_S = 120.0
POLL_S = 0.1


def ensure() -> str:
    """Make the archive if it is not there; returns words for the user. Raises EngineError, OSError."""
    java = find_java()
    if version_of(java) < LEAST_VERSION:
        return f"Kafka: no class archive with Java {version_of(java)}"
    archive = kafka.archive_of(java, jars.ensure())
    if archive.exists():
        return "Kafka: class archive is there"
    for older in CACHE.glob(kafka.ARCHIVES):
        older.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / archive.name
        _record(Layout(Path(directory)), made)
        # Beside its place first: it may be another file system, and a start must never see half of it.
        beside = archive.with_suffix(f".{os.getpid()}")
        try:
            shutil.copyfile(made, beside)
            os.replace(beside, archive)
        finally:
            beside.unlink(missing_ok=True)
    return f"Kafka: class archive of {archive.stat().st_size // 1_000_000} MB"


def _record(layout: Layout, made: Path) -> None:
    """Start a broker of its own and stop it; Java writes `made` when it ends."""
    layout.create()
    block = ports.hold_block(ports.RANGE)
    options = kafka.KafkaOptions(block.ports[0], block.ports[1], None)
    java, *arguments = kafka.prepare(layout, options).command
    command = [*python_child(), "--die", "KILL", "--", java, f"-XX:AOTCacheOutput={made}", *arguments]
    clock = SystemClock()
    with open(layout.log("kafka"), "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline_s = clock.monotonic_s() + START_DEADLINE_S
        while not kafka.is_ready(options.port) and process.poll() is None and clock.monotonic_s() < deadline_s:
            sleep_s(POLL_S)
        process.terminate()
        process.wait(WRITE_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        block.hold.close()
    if not made.exists():
        raise EngineError("Kafka's class archive was not written:\n" + layout.log("kafka").read_text("utf-8")[-2000:])


if __name__ == "__main__":
    try:
        print(ensure())
    except (EngineError, OSError) as failure:
        # Only a slower start: nothing that should end a set-up.
        sys.stderr.write(f"{failure}\n")
