"""Which symbols: the SYMBOLS setting, asked from the exchange where it says top:N, checked against its list."""

from __future__ import annotations

import asyncio
import sys

from market.errors import BadFrame, UnknownSymbol
from runtime.exchange_rest import ExchangeRest, RestRefused, RestUnavailable
from runtime.health import Health
from runtime.lifecycle import Stop
from runtime.logs import get_logger
from runtime.retry import Backoff
from runtime.symbol_choice import SymbolChoice

log = get_logger(__name__)


async def wanted_symbols(
    choice: SymbolChoice, rest: ExchangeRest, health: Health, backoff: Backoff, stop: Stop
) -> list[str]:
    """The symbols, waiting for the exchange as long as it takes when it must be asked; empty when asked to stop.

    A value that can never work ends the process: message, exit code 2.
    """
    while not stop.is_set:
        try:
            symbols = await asyncio.to_thread(choice.resolve, rest)
        except (RestUnavailable, RestRefused, BadFrame) as error:
            await _wait(error, health, backoff, stop)
            continue
        except (UnknownSymbol, ValueError) as error:
            sys.stderr.write(f"Settings that cannot be used:\n  SYMBOLS: {error}\n")
            raise SystemExit(2) from None
        health.clear_problem("exchange_rest")
        if symbols:
            return symbols
        sys.stderr.write("Settings that cannot be used:\n  SYMBOLS: names no symbol\n")
        raise SystemExit(2)
    return []


async def check_symbols(symbols: list[str], rest: ExchangeRest, health: Health, backoff: Backoff, stop: Stop) -> None:
    """Say which of the symbols the exchange does not know: nothing will ever come for them. Waits for the exchange."""
    while not stop.is_set:
        try:
            known = {info.symbol for info in await asyncio.to_thread(rest.symbol_infos)}
        except (RestUnavailable, RestRefused, BadFrame) as error:
            log.warning("symbols_not_checked", error=str(error))
            await stop.wait(max(backoff.next_delay_s(), getattr(error, "retry_after_s", 0.0)))
            continue
        unknown = [symbol for symbol in symbols if symbol not in known]
        if unknown:
            health.set_problem("symbols", f"the exchange does not know {', '.join(unknown[:10])}")
            log.error("unknown_symbols", symbols=unknown[:50])
        return


async def _wait(error: Exception, health: Health, backoff: Backoff, stop: Stop) -> None:
    delay_s = max(backoff.next_delay_s(), getattr(error, "retry_after_s", 0.0))
    health.set_problem("exchange_rest", f"exchange cannot be reached: {error}")
    log.warning("exchange_cannot_be_reached", error=str(error), retry_in_s=round(delay_s, 1))
    await stop.wait(delay_s)
