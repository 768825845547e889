"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig


class WebappConfig(AppConfig):
    """Tables, pages and API of Candlewire."""

    name = "webapp"
    label = "webapp"
