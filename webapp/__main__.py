"""`python -m webapp`: pages and API on PORT. `python -m webapp COMMAND`: Django's own management commands."""

from __future__ import annotations

import os
import sys

from runtime.logs import configure
from runtime.settings import load
from webapp.settings import WebappSettings


def main() -> None:
    """Serve, or run the management command given."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.django_settings")
    settings = load(WebappSettings)
    configure("webapp", settings.log_level, as_json=settings.log_json)
    if len(sys.argv) > 1:
        from django.core.management import execute_from_command_line

        execute_from_command_line(["python -m webapp", *sys.argv[1:]])
        return
    from webapp.server import serve

    serve(settings)


if __name__ == "__main__":
    main()
