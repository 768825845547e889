"""Which connection a query takes: requests read through `reader`, migrations write through `default`."""

from __future__ import annotations

from django.db.models import Model


class ReadersRead:
    """Reads go to the read-only connection; nothing but migrations writes here."""

    def db_for_read(self, model: type[Model], **hints: object) -> str:
        """The read-only connection."""
        return "reader"

    def db_for_write(self, model: type[Model], **hints: object) -> str:
        """The owner."""
        return "default"

    def allow_relation(self, left: Model, right: Model, **hints: object) -> bool:
        """Both connections lead to one database."""
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        """Only the owner migrates."""
        return db == "default"
