"""/api/docs/: the OpenAPI document as a page of our own, without foreign code."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
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
            "method": method.upper(),
            "path": path,
            "summary": operation.get("summary", ""),
            "about": operation.get("description", ""),
            "parameters": [_parameter(parameter) for parameter in operation.get("parameters", [])],
            "answers": [
                {"status": status, "about": answer.get("description", "") or "the answer"}
                for status, answer in operation["responses"].items()
            ],
            "example": _example(operation["responses"]),
        }
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
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


def _example(answers: dict[str, Any]) -> str:
    """The example of the answer 200, as JSON; empty where there is none."""
    content = answers.get("200", {}).get("content", {}).get("application/json", {})
    named = [example["value"] for example in content.get("examples", {}).values()]
    example = content.get("example", named[0] if named else None)
    # With blanks, where a page may break the line.
    return "" if example is None else msgspec.json.format(msgspec.json.encode(example), indent=0).decode()


def docs(request: HttpRequest) -> HttpResponse:
    """The page."""
    return render(request, "api_docs.html", {"operations": _operations()})
