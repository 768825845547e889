"""Rules over the tracked files: nothing of one machine in them, locks complete, licences named."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

#: Places that exist on one machine only, and hosts that belong into the configuration of the package clients.
MACHINE_PATHS = re.compile(r"(?<![\w.$}/>-])/(?:work|root|home|Users)/\w+|(?<![\w.$}/>-])/tmp/\w+")
REGISTRY_HOSTS = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|repo1?\.maven|maven\.apache\.org|deb\.debian\.org)\b"
)
URLS = re.compile(r"https?://")
TEXT_SUFFIXES = frozenset(
    {".py", ".md", ".toml", ".yml", ".yaml", ".ini", ".in", ".lock", ".json", ".js", ".css", ".html", ".txt"}
    | {".cfg", ".sh", ".properties", ".conf", ".example"}
)
#: These two name what they forbid.
SELF = frozenset({"tests/architecture/repository_rules.py", "tests/architecture/test_architecture_repository.py"})


def tracked(root: Path) -> list[Path]:
    """Files under version control, or those that would be at the next commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    return [root / name for name in names if name and (root / name).is_file()]


def machine_names(root: Path, files: list[Path]) -> list[str]:
    """Machine paths and registry hosts in text files."""
    found = []
    for path in files:
        name = path.relative_to(root).as_posix()
        if name in SELF or (path.suffix and path.suffix not in TEXT_SUFFIXES):
            continue
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
            for pattern in (MACHINE_PATHS, REGISTRY_HOSTS):
                match = pattern.search(line)
                if match:
                    found.append(f"{name}:{number}: {match.group()}")
    return found


def python_lock(text: str) -> list[str]:
    """Every requirement is pinned and carries hashes; no URL anywhere."""
    found = [f"URL: {line}" for line in text.splitlines() if URLS.search(line)]
    for requirement in re.split(r"\n(?=[A-Za-z0-9])", text):
        head = requirement.split("\n", 1)[0]
        if head.startswith("#") or not head.strip():
            continue
        if not re.match(r"^[A-Za-z0-9._\[\],-]+==\S+", head):
            found.append(f"not pinned: {head}")
        elif not re.search(r"--hash=sha256:[0-9a-f]{64}", requirement):
            found.append(f"no hash: {head}")
    return found


def node_lock(text: str) -> list[str]:
    """Every package of a package-lock.json carries its integrity and no address."""
    packages = json.loads(text)["packages"]
    found = [f"no integrity: {name}" for name, entry in packages.items() if name and "integrity" not in entry]
    return found + [f"address: {name}" for name, entry in packages.items() if URLS.search(str(entry.get("resolved")))]


def jar_lock(text: str) -> list[str]:
    """Every line of a lock of jars, `group:artifact:version... sha256`, has both parts and no address."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            if URLS.search(line):
                found.append(f"URL: {line}")
            if not re.search(r"[\w.-]+:[\w.-]+:\S*\d", line) or not re.search(r"\b[0-9a-f]{64}\b", line):
                found.append(f"no coordinate or hash: {line}")
    return found


def locked_names(text: str) -> set[str]:
    """Names of the packages in a Python lock."""
    return {match.group(1).lower() for match in re.finditer(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==", text, re.MULTILINE)}


def project_version(root: Path) -> str:
    """Version in pyproject.toml."""
    return str(tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"])
