"""`python -m runtime.probe`: is this machine's room ready? For health checks of containers.

Asks /readyz on HEALTH_PORT of this machine; prints the answer. Exit code 0 = ready, 1 = not ready or no answer,
2 = usage.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 4.0
PATH = "/readyz"


def main() -> int:
    """Entry point."""
    port = os.environ.get("HEALTH_PORT", "")
    if not port.isdigit() or int(port) == 0:
        sys.stderr.write("HEALTH_PORT must be the port of the room's health server\n")
        return 2
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{PATH}", timeout=TIMEOUT_S) as response:
            sys.stdout.write(response.read().decode("utf-8", "replace") + "\n")
            return 0
    except urllib.error.HTTPError as error:
        sys.stdout.write(error.read().decode("utf-8", "replace") + "\n")
    except OSError as error:
        sys.stdout.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
