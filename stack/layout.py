"""Where things are: the checkout, and the directories of one stack below its DATA_DIR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
CHILD = ROOT / "stack" / "child.py"
SERVER_PROPERTIES = ROOT / "kafka" / "server.properties"
LOG4J_PROPERTIES = ROOT / "kafka" / "log4j2.properties"
JARS_LOCK = ROOT / "kafka" / "jars.lock"
CRONTAB = ROOT / "crontab"


@dataclass(frozen=True)
class Layout:
    """The directories of the stack whose state is in `data_dir` (absolute)."""

    data_dir: Path

    @property
    def run(self) -> Path:
        """What belongs to one run: process ids, ports, generated configuration."""
        return self.data_dir / "run"

    @property
    def logs(self) -> Path:
        """One rotated log per room."""
        return self.data_dir / "logs"

    @property
    def secrets(self) -> Path:
        """Generated passwords and keys, readable by their owner only."""
        return self.data_dir / "secrets"

    @property
    def backups(self) -> Path:
        """Database dumps."""
        return self.data_dir / "backups"

    @property
    def lock(self) -> Path:
        """Held by the running `candlewire up`; holds its process id."""
        return self.run / "up.lock"

    @property
    def description(self) -> Path:
        """What `candlewire status` needs to know of the newest start (addresses with passwords: owner only)."""
        return self.run / "stack.json"

    @property
    def ports(self) -> Path:
        """The ports that were chosen, reused by the next start."""
        return self.run / "ports.json"

    def starts(self, name: str) -> Path:
        """Process ids of each start of the program since `candlewire up`, one a line."""
        return self.run / f"{name}.starts"

    def log(self, name: str) -> Path:
        """The program's log."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Make the directories; those with secrets for their owner only."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for directory in (self.run, self.logs, self.secrets, self.backups):
            directory.mkdir(exist_ok=True, mode=0o700)
