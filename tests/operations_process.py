"""The web application on topics of a test's own: `python -m tests.operations_process TOPICS_FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from runtime import kafka_client

if __name__ == "__main__":
    # Every caller asks for the file of the checkout by default: here it is the test's.
    kafka_client.load_topics.__defaults__ = (Path(sys.argv.pop()),)
    from webapp.__main__ import main

    main()
