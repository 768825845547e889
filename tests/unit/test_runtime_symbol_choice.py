"""`top:N` means the same for every room, and after a restart."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from runtime.clock import ManualClock
from runtime.exchange_rest import ExchangeRest, RestUnavailable
from runtime.symbol_choice import SymbolChoice, forget_choices
from stack import status
from stack.layout import Layout


class Exchange:
    """An exchange whose order of turnover is set by hand; None = it is away."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *symbols: str) -> None:
        self.order: tuple[str, ...] | None = symbols
        self.asked = 0
        self.rest = ExchangeRest(["http://127.0.0.1:1"], ManualClock(60_000))
        monkeypatch.setattr(self.rest, "get", self._get)

    def _get(self, _endpoint: str, _query: dict[str, str]) -> bytes:
        self.asked += 1
        if self.order is None:
            raise RestUnavailable("nobody there")
        return msgspec.json.encode(
            [{"symbol": symbol, "quoteVolume": str(100 - place)} for place, symbol in enumerate(self.order)]
        )


def choice(data_dir: Path, wanted: str = "top:2", source: str = "binance") -> SymbolChoice:
    return SymbolChoice(wanted, source, "http://127.0.0.1:1", data_dir)


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Exchange:
    return Exchange(monkeypatch, "AUSDT", "BUSDT", "CUSDT")


def test_every_room_has_the_symbols_of_the_first_that_asked(tmp_path: Path, exchange: Exchange) -> None:
    producer, aggregator = choice(tmp_path), choice(tmp_path, "TOP:2 ")
    assert producer.stored() is None
    assert producer.resolve(exchange.rest) == ["AUSDT", "BUSDT"]
    exchange.order = ("CUSDT", "BUSDT", "AUSDT")
    assert aggregator.resolve(exchange.rest) == ["AUSDT", "BUSDT"]
    assert choice(tmp_path).resolve(exchange.rest) == ["AUSDT", "BUSDT"], "a restart keeps them"
    assert exchange.asked == 1
    forget_choices(tmp_path)
    assert producer.resolve(exchange.rest) == ["AUSDT", "BUSDT"], "a running room keeps its symbols"
    assert choice(tmp_path).resolve(exchange.rest) == ["CUSDT", "BUSDT"]


def test_another_number_or_exchange_is_another_question(tmp_path: Path, exchange: Exchange) -> None:
    assert choice(tmp_path).resolve(exchange.rest) == ["AUSDT", "BUSDT"]
    exchange.order = ("CUSDT", "BUSDT", "AUSDT")
    assert choice(tmp_path, "top:1").resolve(exchange.rest) == ["CUSDT"]
    assert choice(tmp_path, source="sim").resolve(exchange.rest) == ["CUSDT", "BUSDT"]
    assert choice(tmp_path, source="tape").resolve(exchange.rest) == ["CUSDT", "BUSDT"]
    assert choice(tmp_path, source="tape").stored() is None, "a tape always gives the same answer"
    assert choice(tmp_path).stored() == ["AUSDT", "BUSDT"]
    asked = exchange.asked
    assert choice(tmp_path, "busdt,NEWUSDT").resolve(exchange.rest) == ["BUSDT", "NEWUSDT"]
    assert exchange.asked == asked


def test_of_two_rooms_that_ask_at_the_same_time_one_decides(
    tmp_path: Path, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = choice(tmp_path), choice(tmp_path)
    asking = exchange.rest.get

    def overtaken(endpoint: str, query: dict[str, str | int]) -> bytes:
        body = asking(endpoint, query)
        exchange.order = ("CUSDT", "BUSDT")
        monkeypatch.setattr(exchange.rest, "get", asking)
        assert quick.resolve(exchange.rest) == ["CUSDT", "BUSDT"]
        return body

    monkeypatch.setattr(exchange.rest, "get", overtaken)
    assert slow.resolve(exchange.rest) == ["CUSDT", "BUSDT"]
    assert [path.suffix for path in (tmp_path / "symbols").iterdir()] == [".json"], "nothing is left lying"


def test_an_exchange_that_is_away_or_empty_is_asked_again(tmp_path: Path, exchange: Exchange) -> None:
    asking = choice(tmp_path)
    exchange.order = None
    with pytest.raises(RestUnavailable):
        asking.resolve(exchange.rest)
    exchange.order = ()
    with pytest.raises(RestUnavailable, match="no traded symbol"):
        asking.resolve(exchange.rest)
    exchange.order = ("AUSDT",)
    assert asking.resolve(exchange.rest) == ["AUSDT"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"symbols": "AUSDT"}', '{"symbols": []}', '{"symbols": [1]}'])
def test_a_kept_answer_that_cannot_be_read_is_replaced(tmp_path: Path, exchange: Exchange, content: str) -> None:
    choice(tmp_path).resolve(exchange.rest)
    (kept,) = (tmp_path / "symbols").iterdir()
    kept.write_text(content)
    exchange.order = ("CUSDT", "AUSDT")
    assert choice(tmp_path).resolve(exchange.rest) == ["CUSDT", "AUSDT"]
    assert choice(tmp_path).stored() == ["CUSDT", "AUSDT"]


def test_where_nothing_can_be_kept_the_answer_is_used_all_the_same(tmp_path: Path, exchange: Exchange) -> None:
    (tmp_path / "symbols").write_text("in the way")
    asking = choice(tmp_path)
    assert asking.resolve(exchange.rest) == ["AUSDT", "BUSDT"]
    exchange.order = ("CUSDT",)
    assert asking.resolve(exchange.rest) == ["AUSDT", "BUSDT"]


def test_status_names_the_symbols_as_soon_as_they_are_known(tmp_path: Path, exchange: Exchange) -> None:
    layout = Layout(tmp_path)
    layout.create()
    found = {"source": "binance", "symbols": ["top:2"], "urls": {"exchange_rest": "http://127.0.0.1:1"}}
    described = found | {"rooms": [], "ports": {}}
    layout.description.write_text(json.dumps(described))
    assert status.stack_status(layout)["symbols"] == ["top:2"]
    choice(tmp_path).resolve(exchange.rest)
    assert status.stack_status(layout)["symbols"] == ["AUSDT", "BUSDT"]
    assert status.symbols(layout, found | {"symbols": ["BTCUSDT", "ETHUSDT"]}) == ["BTCUSDT", "ETHUSDT"]
