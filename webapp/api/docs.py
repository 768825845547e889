"""/api/docs/: the OpenAPI document as a page of our own, without foreign code."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator


@lru_cache(maxsize=1)
def _operations() -> list[dict[str, Any]]:
    """The operations by path, ready for the template."""
    # The library carries no types: its calls are untyped.
    make: Any = SchemaGenerator
    document = make().get_schema(request=None, public=True)
    return [
        {
            "path": path,
            "summary": operation.get("summary", ""),
            "about": operation.get("description", ""),
            "parameters": [_parameter(parameter) for parameter in operation.get("parameters", [])],
            "answers": [
                {"status": status, "about": answer.get("description", "") or "the answer"}
                for status, answer in operation["responses"].items()
            ],
        }
        for path, methods in sorted(document["paths"].items())
        for operation in [methods["get"]]
    ]


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    examples = [example["value"] for example in parameter.get("examples", {}).values()]
    schema = parameter.get("schema", {})
    return {
        "name": parameter["name"],
        "is_required": parameter.get("required", False),
        "about": parameter.get("description", ""),
        "allowed": ", ".join(map(str, schema.get("enum", []))),
        "example": parameter.get("example", examples[0] if examples else ""),
    }


def docs(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "api_docs.html", {"operations": _operations()})
