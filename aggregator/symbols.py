"""market_symbol: what the exchange says of its symbols, and which of them we follow in which order."""

from __future__ import annotations

from market.symbol import SymbolInfo
from runtime.database import Connection, TupleRow
from runtime.exchange_rest import ExchangeRest
from runtime.logs import get_logger
from runtime.operations.room_control import chosen
from runtime.symbol_choice import SymbolChoice

UPSERT_SYMBOL = """
insert into market_symbol (symbol, base_asset, quote_asset, status, tick_size, step_size, rank, is_followed)
values (%s, %s, %s, %s, %s, %s, %s, true)
on conflict (symbol) do update set
    base_asset = excluded.base_asset, quote_asset = excluded.quote_asset, status = excluded.status,
    tick_size = excluded.tick_size, step_size = excluded.step_size, rank = excluded.rank, is_followed = true,
    updated_at = now()
where (market_symbol.base_asset, market_symbol.quote_asset, market_symbol.status, market_symbol.tick_size,
       market_symbol.step_size, market_symbol.rank, market_symbol.is_followed)
      is distinct from
      (excluded.base_asset, excluded.quote_asset, excluded.status, excluded.tick_size, excluded.step_size,
       excluded.rank, true)
"""
LEAVE_OTHERS = """
update market_symbol set is_followed = false, updated_at = now() where is_followed and symbol <> all(%s::text[])
"""
LEAVE = "update market_symbol set is_followed = false, updated_at = now() where symbol = %s"
NEXT_RANK = "select coalesce(max(rank), -1) + 1 from market_symbol where is_followed"
CHOOSE = """
insert into symbol_choice (symbol, is_wanted, updated_by) values (%s, %s, %s)
on conflict (symbol) do update set is_wanted = excluded.is_wanted, updated_at = now(), updated_by = excluded.updated_by
"""
CHOICES = "select symbol, is_wanted from symbol_choice order by updated_at, symbol"

log = get_logger(__name__)


def refresh_symbols(connection: Connection[TupleRow], rest: ExchangeRest, choice: SymbolChoice) -> None:
    """Ask the exchange and bring the table up to date: what is followed, in the order of SYMBOLS and then of adding.

    A symbol that the exchange does not know is logged and left out. Raises RestUnavailable, RestRefused.
    """
    symbols = choice.resolve(rest)
    infos = {info.symbol: info for info in rest.symbol_infos()}
    with connection.transaction(), connection.cursor() as cursor:
        wanted = chosen(symbols, choices(connection))
        unknown = [symbol for symbol in wanted if symbol not in infos]
        if unknown:
            log.warning("symbols_unknown_to_exchange", symbols=unknown)
        followed = [symbol for symbol in wanted if symbol in infos]
        cursor.executemany(UPSERT_SYMBOL, [_values(infos[symbol], rank) for rank, symbol in enumerate(followed)])
        cursor.execute(LEAVE_OTHERS, [followed])


def choices(connection: Connection[TupleRow]) -> dict[str, bool]:
    """What operators chose beside SYMBOLS, the oldest choice first."""
    return dict(connection.execute(CHOICES).fetchall())


def choose(connection: Connection[TupleRow], symbol: str, info: SymbolInfo | None, by: str) -> None:
    """Follow this one from now on, behind the others, or (without `info`) no longer; one transaction."""
    with connection.transaction():
        connection.execute(CHOOSE, [symbol, info is not None, by])
        if info is None:
            connection.execute(LEAVE, [symbol])
            return
        row = connection.execute(NEXT_RANK).fetchone()
        assert row is not None
        connection.execute(UPSERT_SYMBOL, _values(info, row[0]))


def _values(info: SymbolInfo, rank: int) -> list[object]:
    return [
        info.symbol,
        info.base_asset,
        info.quote_asset,
        info.status,
        info.tick_size,
        info.step_size,
        rank,
    ]
