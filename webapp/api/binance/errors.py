"""Errors as Binance words them: HTTP status, integer code, message (errors.md of its documentation)."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse

CONTENT_TYPE = "application/json;charset=UTF-8"


class BinanceError(Exception):
    """A request that Binance would refuse. `code` is stable, `message` is for people."""

    def __init__(self, code: int, message: str, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.retry_after_s = code, message, status, retry_after_s

    def response(self) -> HttpResponse:
        """The answer: `{"code","msg"}`."""
        body = msgspec.json.encode({"code": self.code, "msg": self.message})
        response = HttpResponse(body, status=self.status, content_type=CONTENT_TYPE)
        if self.retry_after_s is not None:
            response["Retry-After"] = str(self.retry_after_s)
        return response


def illegal_characters(name: str, legal: str) -> BinanceError:
    """-1100."""
    return BinanceError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def duplicate_parameter() -> BinanceError:
    """-1101."""
    return BinanceError(-1101, "Duplicate values for a parameter detected.")


def missing(name: str) -> BinanceError:
    """-1102."""
    return BinanceError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def unread(read: int, sent: int) -> BinanceError:
    """-1104."""
    return BinanceError(-1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.")


def empty(name: str) -> BinanceError:
    """-1105."""
    return BinanceError(-1105, f"Parameter '{name}' was empty.")


def invalid_interval() -> BinanceError:
    """-1120."""
    return BinanceError(-1120, "Invalid interval.")


def invalid_symbol() -> BinanceError:
    """-1121."""
    return BinanceError(-1121, "Invalid symbol.")


def invalid_symbol_status() -> BinanceError:
    """-1122."""
    return BinanceError(-1122, "Invalid symbolStatus.")


def bad_combination() -> BinanceError:
    """-1128."""
    return BinanceError(-1128, "Combination of optional parameters invalid.")


def invalid_value(name: str) -> BinanceError:
    """-1130."""
    return BinanceError(-1130, f"Data sent for parameter '{name}' is not valid.")


def invalid_ticker_type() -> BinanceError:
    """-1139."""
    return BinanceError(-1139, "Invalid ticker type.")


def duplicate_symbols() -> BinanceError:
    """-1151."""
    return BinanceError(-1151, "Symbol is present multiple times in the list.")


def invalid_time_unit() -> BinanceError:
    """-1194."""
    return BinanceError(-1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")


def status_mismatch() -> BinanceError:
    """-1220."""
    return BinanceError(-1220, "The symbol's status does not match the requested symbolStatus.")


def not_supported() -> BinanceError:
    """-1020 with 404: nothing is stored that could answer."""
    return BinanceError(-1020, "This operation is not supported.", 404)


def not_known(why: str) -> BinanceError:
    """-1001 with 503: what the stream said last is too old or cannot be asked for."""
    return BinanceError(-1001, f"Internal error; unable to process your request. Please try again. ({why})", 503)


def too_much_weight(limit: int, retry_after_s: int) -> BinanceError:
    """-1003 with 429 and Retry-After."""
    return BinanceError(
        -1003,
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        429,
        retry_after_s,
    )


_BY_STATUS = {
    404: (-1020, "This operation is not supported."),
    405: (-1020, "This operation is not supported."),
    503: (-1001, "Internal error; unable to process your request. Please try again."),
}


def for_status(status: int, detail: str) -> HttpResponse:
    """An answer for what went wrong outside of the endpoints (no such path, database away, our own bug)."""
    code, message = _BY_STATUS.get(status, (-1000, "An unknown error occurred while processing the request."))
    return BinanceError(code, f"{message} ({detail})" if detail else message, status).response()
