"""The Django application."""

from __future__ import annotations

import logging

from django.apps import AppConfig


class WebappConfig(AppConfig):
    """Tables, pages and API of Candlewire."""

    name = "webapp"
    label = "webapp"

    def ready(self) -> None:
        """A wrong path is the visitor's mistake: only our own failures go to the log."""
        logging.getLogger("django.request").setLevel(logging.ERROR)
