"""The Python client against answers made by hand: arguments, retries, broken-off exports, missing libraries, live."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.server import ServerConnection, serve

from candlewire import client as module
from candlewire import frames, live
from candlewire.client import KLINES, Client
from candlewire.errors import BadArgument, MissingLibrary, RateLimited, Refused, Unavailable
from market.interval import DAY_MS, MINUTE_MS
from runtime.time_text import EPOCH, LAST_MS

START_MS = 1_795_132_800_000
END_MS = START_MS + DAY_MS
LONG_AGO = START_MS - 100 * DAY_MS
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have slept, each time."""
    slept: list[float] = []
    monkeypatch.setattr(module, "sleep_s", slept.append)
    monkeypatch.setattr(live, "sleep_s", slept.append)
    return slept


def client_of(*answers: httpx.Response | Answer) -> tuple[Client, list[httpx.Request]]:
    """A client whose server gives these answers in turn, the last one for ever; and what it was asked."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        answer = answers[min(len(asked), len(answers)) - 1]
        return answer if isinstance(answer, httpx.Response) else answer(request)

    made = Client("http://candles.test")
    made._http = httpx.Client(base_url="http://candles.test", transport=httpx.MockTransport(handle))
    return made, asked


def exported(*opens_ms: int, price: str = "text") -> bytes:
    """An Arrow stream like the server's, one batch a row."""
    kinds = {"time": pa.timestamp("us", "UTC"), "whole": pa.int64(), "flag": pa.bool_(), "text": pa.string()}
    kinds["money"] = pa.string() if price == "text" else pa.decimal128(38, 18)
    schema = pa.schema([(name, kinds[kind]) for name, kind in KLINES.items()] + [("is_closed", pa.bool_())])
    values = {"whole": 1, "flag": True, "text": "seconds", "money": "0.10" if price == "text" else Decimal("0.10")}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for open_ms in opens_ms:
            opened = datetime.fromtimestamp(open_ms / 1000, UTC)
            row = {name: opened if kind == "time" else values[kind] for name, kind in KLINES.items()}
            closed = open_ms != opens_ms[-1] or len(opens_ms) == 1
            writer.write_batch(pa.RecordBatch.from_pylist([{**row, "is_closed": closed}], schema))
    return bytes(sink.getvalue())


@given(st.integers(module.LEAST_MS, LAST_MS))
def test_a_time_may_be_written_in_many_ways(time_ms: int) -> None:
    moment = EPOCH + timedelta(milliseconds=time_ms)
    ways: list[module.Time] = [time_ms, moment, moment.replace(tzinfo=None), moment.isoformat(), str(time_ms)]
    if moment.year < 9999:
        ways.append(moment.astimezone(timezone(timedelta(hours=5))))
    assert {module._ms("start", way) for way in ways} == {time_ms}
    assert module._ms("start", date(2026, 11, 20)) == module._ms("start", np.int64(START_MS)) == START_MS


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        (("BTCUSDT", "1m", 1_795_132_800, END_MS), {}, "start"),
        (("BTCUSDT", "1m", START_MS, START_MS * 1_000), {}, "end"),
        (("BTCUSDT", "1m", True, END_MS), {}, "start"),
        (("BTCUSDT", "1m", "yesterday", END_MS), {}, "start"),
        (("BTCUSDT", "1m", 1.5, END_MS), {}, "start"),
        (("BTCUSDT", "1m", None, END_MS), {}, "start"),
        (("BTCUSDT", "1m", END_MS, START_MS), {}, "end"),
        (("BTCUSDT", "1m", START_MS, END_MS), {"frame": "excel"}, "frame"),
        (("BTCUSDT", "1m", START_MS, END_MS), {"known_at": "then"}, "known_at"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_asked(arguments: Any, options: Any, name: str) -> None:
    client, asked = client_of(httpx.Response(500))
    with pytest.raises(BadArgument) as wrong:
        client.klines(*arguments, **options)
    assert (wrong.value.name, asked) == (name, [])
    assert name == "end" or wrong.value.allowed


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(BadArgument):
        Client(url)


def test_refusals_carry_what_is_allowed(waits: list[float]) -> None:
    problem = {"detail": "no such interval", "parameter": "interval", "allowed": ["1m", "1M"]}
    client, asked = client_of(httpx.Response(400, json=problem))
    with pytest.raises(Refused) as refused:
        client.klines("BTCUSDT", "7m", START_MS, END_MS, frame="arrow")
    assert (refused.value.name, refused.value.allowed, refused.value.status) == ("interval", ["1m", "1M"], 400)
    assert "1M" in str(refused.value)
    assert (len(asked), waits) == (1, [])


def test_what_may_pass_is_tried_again_within_a_bound(waits: list[float]) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody listens", request=request)

    good = httpx.Response(200, json={"gaps": [], "is_cut": False})
    client, asked = client_of(httpx.Response(503), httpx.Response(429, headers={"Retry-After": "7"}), broken, good)
    assert client.gaps("BTCUSDT", START_MS, END_MS, frame="arrow").num_rows == 0
    assert (len(asked), len(waits), waits[1]) == (4, 3, 7)
    client, asked = client_of(broken)
    with pytest.raises(Unavailable, match="nobody listens"):
        client.gaps("BTCUSDT", START_MS, END_MS, frame="arrow")
    assert len(asked) == 4
    client, asked = client_of(httpx.Response(429, headers={"Retry-After": "61"}))
    with pytest.raises(RateLimited) as limited:
        client.gaps("BTCUSDT", START_MS, END_MS, frame="arrow")
    assert (limited.value.retry_after_s, len(asked)) == (61, 1)


@pytest.mark.parametrize("price", ["text", "decimal"])
def test_an_export_that_breaks_off_goes_on_after_the_last_row(waits: list[float], price: str) -> None:
    opens = [START_MS + n * MINUTE_MS for n in range(4)]
    whole = exported(*opens, price=price)

    def torn(request: httpx.Request) -> httpx.Response:
        def chunks() -> Iterator[bytes]:
            yield whole[: len(whole) // 2]
            raise httpx.ReadError("reset", request=request)

        return httpx.Response(200, content=chunks())

    def rest(request: httpx.Request) -> httpx.Response:
        left = [ms for ms in opens if ms >= int(request.url.params["start"])]
        assert len(left) < len(opens)
        return httpx.Response(200, content=exported(*left, price=price))

    client, asked = client_of(torn, rest)
    table = client.klines("BTCUSDT", "1m", LONG_AGO, END_MS, frame="arrow")
    # The last one is still forming.
    assert table.column("open_time").cast(pa.int64()).to_pylist() == opens[:3]
    assert set(table.column("close").to_pylist()) == {Decimal("0.10")}
    assert (len(asked), len(waits)) == (2, 1)


def test_an_export_without_its_end_is_no_answer(waits: list[float]) -> None:
    for cut in (8, 1, len(exported(START_MS)) // 2):
        client, asked = client_of(httpx.Response(200, content=exported(START_MS)[:-cut]))
        with pytest.raises(Unavailable, match="broken off"):
            client.klines("BTCUSDT", "3m", START_MS, END_MS, frame="arrow")
        assert len(asked) == 4


def test_pages_are_joined_and_what_is_not_stored_is_left_out() -> None:
    columns = [f"{name}_ms" if kind == "time" else name for name, kind in KLINES.items()] + ["is_closed"]
    plain = {"time": START_MS, "money": "0.1", "whole": 0, "flag": True, "text": "seconds"}

    def row(open_ms: int, revision: int, *, is_closed: bool) -> list[Any]:
        values = [plain[kind] for kind in KLINES.values()]
        values[0], values[list(KLINES).index("revision")] = open_ms, revision
        return [*values, is_closed]

    newest = [row(2, 0, is_closed=True), row(3, -1, is_closed=True), row(4, 0, is_closed=False)]
    client, asked = client_of(
        httpx.Response(200, json={"columns": columns, "rows": newest, "next_cursor": "2"}),
        httpx.Response(200, json={"columns": columns, "rows": [row(1, 0, is_closed=True)], "next_cursor": None}),
    )
    table = client.klines("BTCUSDT", "1m", START_MS, END_MS, frame="arrow")
    assert table.column("open_time").cast(pa.int64()).to_pylist() == [1, 2]
    assert [request.url.params.get("cursor") for request in asked] == [None, "2"]


def test_more_gaps_than_an_answer_holds_are_asked_for_in_halves() -> None:
    def gap(number: int) -> dict[str, Any]:
        plain = {"whole": number, "time": START_MS, "text": "x"}
        return {f"{name}_ms" if kind == "time" else name: plain.get(kind) for name, kind in module.GAPS.items()}

    def answer(request: httpx.Request) -> httpx.Response:
        first, end = (int(request.url.params[name]) for name in ("from", "to"))
        is_cut = end - first > DAY_MS // 2
        some = range(3) if is_cut else range(10) if first == START_MS else range(5, 15)
        return httpx.Response(200, json={"gaps": [gap(number) for number in some], "is_cut": is_cut})

    client, asked = client_of(answer)
    assert client.gaps(None, START_MS, END_MS, frame="arrow").column("id").to_pylist() == list(range(15))
    assert len(asked) == 3


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(frames, "import_module", missing)
    with pytest.raises(MissingLibrary, match="pip install pyarrow") as error:
        client_of(httpx.Response(200, content=exported(START_MS)))[0].klines("BTCUSDT", "3m", START_MS, END_MS)
    assert isinstance(error.value, ImportError)


@given(st.lists(st.decimals(min_value=0, max_value=10**15, places=8), min_size=1, max_size=20))
def test_floats_are_the_nearest(values: list[Decimal]) -> None:
    table = frames.table_of({"close": "money"}, [[str(value)] for value in values])
    assert frames.as_frame(table, "arrow").column("close").to_pylist() == values
    assert frames.as_frame(table, "arrow", exact=False).column("close").to_pylist() == [float(v) for v in values]


def test_live_messages_resume_after_the_last_one(waits: list[float]) -> None:
    subscribed: list[Any] = []

    def handle(connection: ServerConnection) -> None:
        asked = json.loads(connection.recv())
        subscribed.append(asked)
        if asked["ch"] == ["nonsense"]:
            error = {
                "op": "error",
                "code": "unknown_channel",
                "message": "no such channel",
                "allowed": ["trade:SYMBOL"],
            }
            connection.send(json.dumps(error))
            return
        first = asked["since"].get("trade:BTCUSDT", 6) + 1
        for seq in (first, first + 1):
            times = {"event": 1, "received": 2, "appended": 3, "relayed": 4}
            message = {"ch": "trade:BTCUSDT", "seq": seq, "kind": "update", "t": times, "data": {"price": "0.10"}}
            connection.send(json.dumps(message))
        connection.close(1001)

    with serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/live"
        client = Client("http://candles.test", stream_url=url)
        messages = client.stream(["trade:BTCUSDT"])
        got = [next(messages) for _ in range(5)]
        messages.close()
        with pytest.raises(Refused, match="no such channel") as refused:
            next(client.stream(["nonsense"]))
        server.shutdown()
        thread.join()
    assert [message.seq for message in got] == [7, 8, 9, 10, 11]
    assert (got[0].times.relayed, got[0].data) == (4, {"price": "0.10"})
    assert [asked["since"] for asked in subscribed[:3]] == [{}, {"trade:BTCUSDT": 8}, {"trade:BTCUSDT": 10}]
    assert refused.value.allowed == ["trade:SYMBOL"]
    with pytest.raises(Unavailable, match="4 times"):
        next(client.stream(["trade:BTCUSDT"]))
    with pytest.raises(BadArgument):
        client.stream("trade:BTCUSDT")


def test_exported_decimals_have_as_many_digits_as_they_have() -> None:
    client, _ = client_of(httpx.Response(200, content=exported(START_MS, END_MS, price="decimal")))
    table = client.klines("BTCUSDT", "3m", START_MS, END_MS + 1, frame="arrow")
    assert table.schema.field("open").type == pa.decimal128(9, 8)
    assert table.column("open").to_pylist() == [Decimal("0.10")]
    frame = table.to_pandas(types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_decimal(kind) else None)
    assert (frame.open * frame.base_volume).tolist() == [Decimal("0.01")]
