"""The broker: Apache Kafka, one KRaft node."""

from __future__ import annotations

import base64
import hashlib
import socket
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from stack.engines import jars
from stack.engines.java import find_java, version_of
from stack.layout import CACHE, LOG4J_PROPERTIES, SERVER_PROPERTIES, Layout
from stack.program import EngineError, Program

HEAP = "256m"
FORMAT_TIMEOUT_S = 60
PROBE_TIMEOUT_S = 0.5
JVM_OPTIONS = (
    f"-Xms{HEAP}",
    f"-Xmx{HEAP}",
    "-XX:+UseSerialGC",
    "-XX:MaxDirectMemorySize=64m",
    "-XX:ReservedCodeCacheSize=48m",
    "-XX:TieredStopAtLevel=1",
    "-Xss512k",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dlog4j.shutdownHookEnabled=false",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
)
#: What stack/engines/class_archive.py has made, in the checkout's cache.
ARCHIVES = "kafka-*.aot"


@dataclass(frozen=True)
class KafkaOptions:
    """What differs from kafka/server.properties in this run."""

    port: int
    controller_port: int
    retention_check_ms: int | None


def prepare(layout: Layout, options: KafkaOptions) -> Program:
    """Fetch the jars, write the derived configuration, format the storage on the first start. Raises EngineError."""
    class_path = jars.ensure()
    java = find_java()
    home = layout.data_dir / "kafka"
    home.mkdir(exist_ok=True)
    properties = home / "server.properties"
    properties.write_text(derive(SERVER_PROPERTIES.read_text("utf-8"), home / "data", options), "utf-8")
    # Java >= 24 warns of a call that Kafka 4.3 makes on purpose; older ones do not know the option.
    quiet = ("--sun-misc-unsafe-memory-access=allow",) if version_of(java) >= 23 else ()
    archive = archive_of(java, class_path)
    # What Java cannot use of the archive it tells, and does without.
    linked = (f"-XX:AOTCache={archive}", "-Xlog:aot*=error") if archive.exists() else ()
    logging = f"-Dlog4j2.configurationFile={LOG4J_PROPERTIES}"
    base = (str(java), *JVM_OPTIONS, *quiet, *linked, logging, "-cp", class_path)
    if not (home / "data" / "meta.properties").exists():
        _format(base, properties)
    return Program("kafka", (*base, "kafka.Kafka", str(properties)), is_engine=True)


def archive_of(java: Path, class_path: str) -> Path:
    """Where the archive of linked classes is, if it was made: its name tells Java, options and jars that it is of."""
    place = java.resolve()
    made_of = "\n".join((str(place), str(place.stat().st_mtime_ns), class_path, *JVM_OPTIONS))
    return CACHE / ARCHIVES.replace("*", hashlib.sha256(made_of.encode()).hexdigest()[:16])


def derive(text: str, data: Path, options: KafkaOptions) -> str:
    """The broker's configuration of this run: the file of record with ports, directory and overrides replaced."""
    broker = f"127.0.0.1:{options.port}"
    controller = f"127.0.0.1:{options.controller_port}"
    replaced = {
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker}",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(data),
    }
    if options.retention_check_ms is not None:
        replaced["log.retention.check.interval.ms"] = str(options.retention_check_ms)
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0]
        lines.append(f"{key}={replaced.pop(key)}" if key in replaced else line)
    if replaced:
        raise ValueError(f"kafka/server.properties lacks {', '.join(replaced)}")
    return "\n".join(lines) + "\n"


def _format(base: tuple[str, ...], properties: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    if cluster_id.startswith("-"):
        cluster_id = "A" + cluster_id[1:]  # the tool would read it as an option
    tool = ("kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id, "-c", str(properties))
    done = subprocess.run([*base, *tool], capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise EngineError(f"Kafka cannot format its storage: {(done.stdout + done.stderr).strip()[-2000:]}")


def is_ready(port: int) -> bool:
    """True when the broker accepts connections: it opens its socket only after it has recovered its logs."""
    try:
        socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True
