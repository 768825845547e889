"""The Django application."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.signals import request_started
from django.db import connections
from django.db.backends.signals import connection_created

from runtime.database import bound_answers, has_hung_up


class WebappConfig(AppConfig):
    """Tables, pages and API of Candlewire."""

    name = "webapp"
    label = "webapp"

    def ready(self) -> None:
        """A wrong path is the visitor's mistake: only our own failures go to the log. No request waits for ever."""
        logging.getLogger("django.request").setLevel(logging.ERROR)
        connection_created.connect(_bound_answers)
        request_started.connect(_drop_lost)


def _bound_answers(connection: Any, **_: Any) -> None:
    bound_answers(connection.connection, settings.STATEMENT_TIMEOUT_MS[connection.alias])


def _drop_lost(**_: Any) -> None:
    """Instead of CONN_HEALTH_CHECKS, which ask the server before each request."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and has_hung_up(connection.connection):
            connection.close()
