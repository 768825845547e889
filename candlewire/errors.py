"""What can go wrong for a program that reads a Candlewire server. All are ClientErrors."""

from __future__ import annotations


class ClientError(Exception):
    """Any failure of this package."""


class BadArgument(ClientError, ValueError):
    """An argument that cannot be used; `allowed` says what can."""

    def __init__(self, name: str, detail: str, allowed: object = None) -> None:
        super().__init__(f"{name}: {detail}" + (f"; allowed: {allowed}" if allowed is not None else ""))
        self.name, self.detail, self.allowed = name, detail, allowed


class Refused(BadArgument):
    """The server refused a parameter; `status` is its HTTP status, 0 on the live connection."""

    def __init__(self, name: str, detail: str, allowed: object = None, status: int = 400) -> None:
        super().__init__(name, detail, allowed)
        self.status = status


class RateLimited(ClientError):
    """The weight of this address is used up for longer than a call waits."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many requests; come again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Unavailable(ClientError):
    """The server did not answer, or broke off, as often as was tried."""


class MissingLibrary(ClientError, ImportError):
    """A frame needs a library that is not installed."""

    def __init__(self, library: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs {library}: pip install {library}")
        self.library = library
