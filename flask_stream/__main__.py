"""`python -m flask_stream`: the WebSocket relay."""

from __future__ import annotations

from flask_stream.serve import RelayServer
from flask_stream.settings import StreamSettings
from runtime import logs
from runtime.settings import load


def main() -> None:
    """Read the settings and serve until SIGTERM."""
    settings = load(StreamSettings)
    logs.configure("flask_stream", settings.log_level, as_json=settings.log_json)
    RelayServer(settings).run()


if __name__ == "__main__":
    main()
