"""Pieces of the OpenAPI document for the dialects whose views are plain functions: parameters, answers, operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Document = dict[str, Any]

INTEGER: Final = {"type": "integer", "minimum": 0}
TEXT: Final = {"type": "string"}
NUMBER: Final = {"type": "number"}


def parameter(
    name: str, about: str, example: object, *, required: bool = False, schema: Document | None = None
) -> Document:
    """A parameter of the query."""
    return {
        "in": "query",
        "name": name,
        "required": required,
        "description": about,
        "schema": schema or TEXT,
        "example": example,
    }


def array(items: Document, **more: object) -> Document:
    """Schema of an array."""
    return {"type": "array", "items": items, **more}


def fields(properties: Mapping[str, Document], *optional: str) -> Document:
    """Schema of an object; all fields are always there but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": dict(properties)}


def answer(about: str, schema: Document, example: object = None) -> Document:
    """An answer with a JSON body."""
    content: Document = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"description": about, "content": {"application/json": content}}
