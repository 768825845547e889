"""The broker's jars: fetched from Maven Central by jgo against kafka/jars.lock, verified, kept in the checkout's cache.

`python -m stack.engines.jars` fetches what is missing.
"""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stack.layout import CACHE, JARS_LOCK
from stack.program import EngineError

FETCH_THREADS = 8
FETCH_ATTEMPTS = 3
REPOSITORY = CACHE / "maven"


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where it lies below the cache, laid out as a Maven repository."""
        name = f"{self.artifact}-{self.version}.jar"
        return Path(*self.group.split("."), self.artifact, self.version, name)


def parse_lock(text: str) -> tuple[Jar, ...]:
    """The jars of the lock file: `group:artifact:version sha256:HEX` a line. Raises ValueError."""
    jars = []
    for line in text.splitlines():
        coordinate, _, digest = line.partition(" sha256:")
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, digest.strip()))
    return tuple(jars)


def locked() -> tuple[Jar, ...]:
    """The jars of kafka/jars.lock."""
    return parse_lock(JARS_LOCK.read_text("utf-8"))


def is_intact(jar: Jar, repository: Path = REPOSITORY) -> bool:
    """True when the jar is there with the locked digest."""
    try:
        content = (repository / jar.path).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content).hexdigest() == jar.sha256


def ensure(repository: Path = REPOSITORY) -> str:
    """Fetch what is missing or damaged; returns the class path. Raises EngineError naming what cannot be had."""
    jars = locked()
    missing = [jar for jar in jars if not is_intact(jar, repository)]
    if missing:
        repository.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            failures = [reason for reason in pool.map(lambda jar: _fetch(jar, repository), missing) if reason]
        if failures:
            raise EngineError("Kafka's jars cannot be fetched:\n  " + "\n  ".join(failures))
    return ":".join(str(repository / jar.path) for jar in jars)


def _fetch(jar: Jar, repository: Path) -> str | None:
    """Fetch one jar; returns why it failed."""
    from jgo.maven import MavenContext  # heavy, and needed only on the first start

    reason = ""
    for _ in range(FETCH_ATTEMPTS):
        (repository / jar.path).unlink(missing_ok=True)
        try:
            project = MavenContext(repo_cache=repository).project(jar.group, jar.artifact)
            project.at_version(jar.version).artifact().resolve()
        except Exception as error:  # jgo and requests raise many kinds; each means the same here
            reason = f"{jar.path.name}: {error}"
            continue
        if is_intact(jar, repository):
            return None
        reason = f"{jar.path.name}: the digest differs from kafka/jars.lock"
    (repository / jar.path).unlink(missing_ok=True)
    return reason


if __name__ == "__main__":
    try:
        print(f"Kafka: {len(ensure().split(':'))} jars")
    except EngineError as failure:
        sys.exit(str(failure))
