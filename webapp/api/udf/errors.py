"""Errors as UDF words them: `{"s":"error","errmsg"}`."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse

CONTENT_TYPE = "application/json"


class UdfError(Exception):
    """A request that cannot be answered; the message is for people and names what is allowed."""

    def __init__(self, message: str, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.retry_after_s = message, status, retry_after_s

    def response(self) -> HttpResponse:
        """The answer. Clients read the body, whatever the status."""
        body = msgspec.json.encode({"s": "error", "errmsg": self.message})
        response = HttpResponse(body, status=self.status, content_type=CONTENT_TYPE)
        if self.retry_after_s is not None:
            response["Retry-After"] = str(self.retry_after_s)
        return response


_BY_STATUS = {
    404: "there is no such path; /api/docs/ lists what there is",
    405: "only GET is served here",
    503: "the database does not answer; try again",
}


def for_status(status: int, detail: str) -> HttpResponse:
    """An answer for what went wrong outside of the endpoints (no such path, database away, our own bug)."""
    return UdfError(detail or _BY_STATUS.get(status, "the request failed"), status).response()
