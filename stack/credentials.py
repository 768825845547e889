"""Passwords and keys: generated once, kept in DATA_DIR/secrets for their owner only."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

SECRET_BYTES = 48


@dataclass(frozen=True, repr=False)
class Credentials:
    """Everything secret of one stack. No repr: it must not reach a log."""

    database: str
    analyst: str
    broker: str
    supervisor: str
    secret_key: str


def load(directory: Path) -> Credentials:
    """Read the secrets, generating those that are missing."""
    return Credentials(
        database=_secret(directory / "database-password"),
        analyst=_secret(directory / "analyst-password"),
        broker=_secret(directory / "valkey-password"),
        supervisor=_secret(directory / "supervisor-password"),
        secret_key=_secret(directory / "secret-key"),
    )


def _secret(path: Path) -> str:
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(SECRET_BYTES))
    return path.read_text("utf-8").strip()
