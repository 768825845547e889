"""/api/v3/ping, time, exchangeInfo."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from django.conf import settings

from webapp.api.binance import errors
from webapp.api.binance.endpoint import CLOCK, endpoint
from webapp.api.binance.parameters import Parameters
from webapp.api.limits import LIMITER
from webapp.selectors import Symbol, followed_symbols

#: The largest amount that the exchange's own messages can carry: it sets no tighter bound than the protocol.
LARGEST: Final = "92233720368.54775807"
PRECISION: Final = 8


@endpoint(weight=1)
def ping(parameters: Parameters, unit: int) -> dict[str, object]:
    """An empty object."""
    return {}


@endpoint(weight=1)
def time(parameters: Parameters, unit: int) -> dict[str, int]:
    """Our clock."""
    return {"serverTime": CLOCK.now_ms() * unit}


@endpoint("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus", weight=20)
def exchange_info(parameters: Parameters, unit: int) -> dict[str, object]:
    """The followed symbols with their steps; market data only, so no order types beyond what clients insist on."""
    wanted, status = parameters.symbols(), parameters.symbol_status()
    permissions = parameters.text("permissions")
    if (status or permissions) and wanted is not None:
        raise errors.bad_combination()
    shows_sets = parameters.text("showPermissionSets") != "false"
    found = followed_symbols(wanted)
    if wanted is not None and len(found) < len(wanted):
        raise errors.invalid_symbol()
    if permissions is not None and "SPOT" not in permissions.upper():
        found = []
    limit = LIMITER.limit_per_minute
    rate = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": limit}
    return {
        "timezone": "UTC",
        "serverTime": CLOCK.now_ms() * unit,
        "rateLimits": [rate] if limit else [],
        "exchangeFilters": [],
        "symbols": [_symbol(symbol, shows_sets) for symbol in found if status in (None, symbol.status)],
        "source": settings.ROOM.source,
    }


def _symbol(symbol: Symbol, shows_sets: bool) -> dict[str, object]:
    return {
        "symbol": symbol.symbol,
        "status": symbol.status,
        "baseAsset": symbol.base_asset,
        "baseAssetPrecision": PRECISION,
        "quoteAsset": symbol.quote_asset,
        "quotePrecision": PRECISION,
        "quoteAssetPrecision": PRECISION,
        "baseCommissionPrecision": PRECISION,
        "quoteCommissionPrecision": PRECISION,
        "orderTypes": ["LIMIT", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": False,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(symbol),
        "permissions": [],
        "permissionSets": [["SPOT"]] if shows_sets else [],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


def _filters(symbol: Symbol) -> list[dict[str, object]]:
    tick, step = eight(symbol.tick_size), eight(symbol.step_size)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": LARGEST, "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": LARGEST, "stepSize": step},
        {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": LARGEST, "stepSize": step},
        {"filterType": "NOTIONAL", "minNotional": "0.00000000", "applyMinToMarket": False,
         "maxNotional": LARGEST, "applyMaxToMarket": False, "avgPriceMins": 5},
    ]  # fmt: skip


def eight(value: Decimal | None) -> str:
    """As the exchange prints amounts: eight decimals; unknown = zero."""
    return f"{value or 0:.8f}"
