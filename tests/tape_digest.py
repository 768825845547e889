"""The digest of a tape, without a database."""

from __future__ import annotations

from pathlib import Path

from aggregator.replay import Replay
from runtime.tape_file import TapeFile


def digest_of_tape(path: Path) -> str:
    """What the tape says, to its end or its cut."""
    run = Replay(TapeFile(path))
    run.run(lambda received_ms: None)
    return run.digest.text()
