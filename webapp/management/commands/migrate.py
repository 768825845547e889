"""`python -m webapp migrate`: Django's own command, waiting for the database, one process at a time, then grants."""

from __future__ import annotations

from typing import Any

from django.core.management.commands.migrate import Command as MigrateCommand

from webapp.analyst_role import grant_analyst
from webapp.schema import exclusive_schema, wait_for_database


class Command(MigrateCommand):
    """Django's migrate under an advisory lock."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Wait for the database, take the lock, migrate, grant."""
        wait_for_database()
        with exclusive_schema():
            super().handle(*args, **options)
            grant_analyst()
