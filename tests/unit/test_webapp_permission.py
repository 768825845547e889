"""Who operates: addresses, proxies, names and tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from runtime.settings_table import problems

TOKEN = "a-token-of-more-than-thirty-two-characters"
SCRIPT = """
import sys, json, django
django.setup()
from django.test import RequestFactory
from webapp.operations.permission import operator_of
cases = json.loads(sys.stdin.read())
print(json.dumps([operator_of(RequestFactory().get("/operator", **case)) for case in cases]))
"""
HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000"}
CASES: list[tuple[str, dict[str, str], str | None]] = [
    ("this machine", HERE, "127.0.0.1"),
    ("its other names", {"REMOTE_ADDR": "::1", "HTTP_HOST": "localhost:8000"}, "::1"),
    ("a mapped address", {**HERE, "REMOTE_ADDR": "::ffff:127.0.0.1"}, "::ffff:127.0.0.1"),
    ("somebody else", {**HERE, "REMOTE_ADDR": "192.0.2.7"}, None),
    ("a proxy that nobody named", {**HERE, "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, None),
    ("a proxy that nobody named, speaking of somebody", {**HERE, "HTTP_FORWARDED": "for=192.0.2.7"}, None),
    ("a proxy that says no more than that it took TLS off", {**HERE, "HTTP_X_FORWARDED_PROTO": "https"}, None),
    ("the named proxy for a visitor", {"REMOTE_ADDR": "127.0.0.9", "HTTP_X_FORWARDED_FOR": "192.0.2.7"}, None),
    ("a visitor who claims to be here", {"REMOTE_ADDR": "127.0.0.9", "HTTP_X_FORWARDED_FOR": "::1, 192.0.2.7"}, None),
    ("the named proxy, who says nothing of the visitor", {"REMOTE_ADDR": "127.0.0.9", "HTTP_HOST": "localhost"}, None),
    (
        "the named proxy for this machine",
        {"REMOTE_ADDR": "127.0.0.9", "HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_HOST": "prices.example"},
        "127.0.0.1",
    ),
    ("a foreign name that points here", {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "evil.sub.example"}, None),
    (
        "the token",
        {"REMOTE_ADDR": "192.0.2.7", "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"},
        "192.0.2.7 (token)",
    ),
    ("a wrong token", {"REMOTE_ADDR": "192.0.2.7", "HTTP_AUTHORIZATION": f"Bearer {TOKEN}x"}, None),
    ("an unsigned cookie", {"REMOTE_ADDR": "192.0.2.7", "HTTP_COOKIE": "operator=1:2:3"}, None),
]


@pytest.fixture(scope="module")
def answers() -> dict[str, str | None]:
    """What the site says to all of them, asked in one process of its own: Django is set up once a process."""
    variables = {
        "OPERATOR_TOKEN": TOKEN,
        "WEB_TRUSTED_PROXIES": "127.0.0.9",
        "WEB_ALLOWED_HOSTS": "localhost,127.0.0.1,prices.example,.sub.example,testserver",
        "DJANGO_SETTINGS_MODULE": "webapp.django_settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, **variables},
        input=json.dumps([case for _, case, _ in CASES]),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip([name for name, _, _ in CASES], json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("name", "expected"), [(name, expected) for name, _, expected in CASES])
def test_who_operates(answers: dict[str, str | None], name: str, expected: str | None) -> None:
    assert answers[name] == expected


def test_a_short_token_is_refused_at_the_start() -> None:
    problem = problems("webapp.settings", {"OPERATOR_TOKEN": "short"}, [])["OPERATOR_TOKEN"]
    assert "at least 32" in problem
    assert "short" not in problem
