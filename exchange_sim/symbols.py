"""Which pairs the simulated exchange lists, how busy each is, and in which steps its prices and quantities move.

Amounts inside the exchange are integers: a price is a number of ticks, a quantity a number of lots, a quote
amount a number of tick x lot. Price and quantity decimals together never exceed eight, so a quote amount is
exact at the eight decimals that the protocol writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

WIRE_DECIMALS: Final = 8
WIRE_UNIT: Final = 10**WIRE_DECIMALS
MAX_SYMBOLS: Final = 4_000
MAX_PRICE_TICKS: Final = 500_000_000
BASE_BLOCK_S: Final = 4_096
BUSIEST_TRADES_PER_BLOCK: Final = 32_768
QUIETEST_TRADES_PER_BLOCK: Final = 64
WISHED_TRADES_PER_BLOCK: Final = 512

# Most traded first; price in US dollars, and the decimals of price and quantity that the exchange uses.
_LEADERS: Final = (
    ("BTC", 62_800.0, 2, 5),
    ("ETH", 3_400.0, 2, 4),
    ("BNB", 600.0, 2, 3),
    ("SOL", 150.0, 2, 3),
    ("XRP", 0.52, 4, 1),
)
_KNOWN: Final = [
    "DOGE",
    "ADA",
    "TRX",
    "AVAX",
    "LINK",
    "SUI",
    "TON",
    "SHIB",
    "DOT",
    "LTC",
    "BCH",
    "UNI",
    "NEAR",
    "APT",
    "PEPE",
    "ICP",
    "ETC",
    "FIL",
    "ARB",
    "OP",
    "ATOM",
    "HBAR",
    "VET",
    "INJ",
    "WIF",
    "RENDER",
    "FET",
    "GRT",
    "AAVE",
    "MKR",
    "ALGO",
    "STX",
    "IMX",
    "TIA",
    "SEI",
    "BONK",
    "FLOKI",
    "JUP",
    "WLD",
    "ENA",
    "LDO",
    "RUNE",
    "EGLD",
    "SAND",
    "MANA",
    "AXS",
    "THETA",
    "XLM",
    "XTZ",
    "EOS",
    "FLOW",
    "CHZ",
    "CRV",
    "SNX",
    "COMP",
    "DYDX",
    "GMX",
    "CAKE",
    "KAVA",
    "ZEC",
    "DASH",
    "IOTA",
    "NEO",
    "QTUM",
    "ROSE",
    "ENJ",
    "BAT",
    "ZIL",
    "HOT",
    "ONE",
    "CELO",
    "ANKR",
    "SKL",
    "MASK",
    "BLUR",
    "ORDI",
    "PYTH",
    "JTO",
    "STRK",
    "PIXEL",
    "PORTAL",
    "AEVO",
    "ETHFI",
    "OMNI",
    "NOT",
    "IO",
    "ZK",
    "LISTA",
    "BANANA",
    "DOGS",
    "HMSTR",
    "CATI",
    "EIGEN",
]
_KNOWN_PRICES: Final = {
    "DOGE": 0.12, "ADA": 0.45, "TRX": 0.13, "AVAX": 27.0, "LINK": 13.4, "SUI": 1.12, "TON": 6.3,
    "SHIB": 0.00001783, "DOT": 5.6, "LTC": 71.0, "BCH": 355.0, "UNI": 7.4, "NEAR": 4.6, "APT": 7.1,
    "PEPE": 0.00000981, "ICP": 8.2, "ETC": 19.8, "FIL": 4.1, "ARB": 0.61, "OP": 1.62, "ATOM": 4.9,
    "BONK": 0.00002134, "FLOKI": 0.00014512,
}  # fmt: skip
_SYLLABLES: Final = [
    "BA",
    "CO",
    "DE",
    "FI",
    "GA",
    "HO",
    "JU",
    "KA",
    "LO",
    "MI",
    "NE",
    "PO",
    "QUA",
    "RO",
    "SI",
    "TU",
    "VE",
    "WO",
    "XA",
    "YU",
    "ZE",
    "LUN",
    "MAR",
    "NOX",
    "PEX",
    "RIX",
    "TOR",
]


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """One listed pair. `key` seeds everything random about it; `phase_s` spreads block joints over time."""

    name: str
    base: str
    quote: str
    rank: int
    price_ticks: int
    price_decimals: int
    quantity_decimals: int
    block_s: int
    phase_s: int
    trades_per_block: int
    median_lots: float
    key: int

    @property
    def price_unit(self) -> int:
        """One tick in units of the eighth decimal."""
        return int(10 ** (WIRE_DECIMALS - self.price_decimals))

    @property
    def quantity_unit(self) -> int:
        """One lot in units of the eighth decimal."""
        return int(10 ** (WIRE_DECIMALS - self.quantity_decimals))

    def quote8(self, amount: int) -> int:
        """tick x lot in units of the eighth decimal; what lies beyond is cut off, as the exchange does."""
        exponent = WIRE_DECIMALS - self.price_decimals - self.quantity_decimals
        return amount * int(10**exponent) if exponent >= 0 else amount // int(10**-exponent)

    @property
    def continuations_per_block(self) -> int:
        """Trades of a block that belong to the same aggregate trade as the one before."""
        return self.trades_per_block // 4

    @property
    def aggregates_per_block(self) -> int:
        """Aggregate trades of a block."""
        return self.trades_per_block - self.continuations_per_block


def stable_hash(*parts: object) -> int:
    """63-bit hash that is the same in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def text8(units: int) -> str:
    """`units` of the eighth decimal as the protocol writes them: 6283763000000 -> 62837.63000000."""
    whole, rest = divmod(units, WIRE_UNIT)
    return f"{whole}.{rest:08d}"


def catalogue(count: int) -> tuple[SymbolSpec, ...]:
    """The first `count` pairs by trading activity. The list does not depend on the seed of the market."""
    if not 1 <= count <= MAX_SYMBOLS:
        raise ValueError(f"number of symbols must be 1 to {MAX_SYMBOLS}, got {count}")
    specs: list[SymbolSpec] = []
    for rank, base in enumerate(_bases(count), start=1):
        if rank <= len(_LEADERS):
            _, price, price_decimals, quantity_decimals = _LEADERS[rank - 1]
        else:
            price, price_decimals, quantity_decimals = _scale(base)
        specs.append(_spec(rank, base, price, price_decimals, quantity_decimals))
    return tuple(specs)


def _bases(count: int) -> list[str]:
    names = [leader[0] for leader in _LEADERS] + _KNOWN
    taken = set(names)
    number = 0
    while len(names) < count:
        number += 1
        picks = stable_hash("name", number)
        name = "".join(_SYLLABLES[(picks >> (8 * i)) % len(_SYLLABLES)] for i in range(3 if number % 3 else 1))
        if not number % 3:
            name += str(1 + picks % 99)
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names[:count]


def _scale(base: str) -> tuple[float, int, int]:
    """Price between 0.000001 and 1000, and decimals that leave it three to five significant digits."""
    unit = stable_hash("price", base) / (1 << 63)
    price = _KNOWN_PRICES.get(base) or 10 ** (-5.5 + 8.5 * unit**0.7)
    price_decimals = 2
    while price_decimals < WIRE_DECIMALS and price * 10**price_decimals < 2_000:
        price_decimals += 1
    quantity_decimals = 0
    while quantity_decimals < WIRE_DECIMALS - price_decimals and price * 10**-quantity_decimals > 0.5:
        quantity_decimals += 1
    return price, price_decimals, quantity_decimals


def _activity(rank: int) -> int:
    if rank <= 20:
        return int(BUSIEST_TRADES_PER_BLOCK / rank**0.5)
    return max(QUIETEST_TRADES_PER_BLOCK, int(BUSIEST_TRADES_PER_BLOCK / 20**0.5 * (20 / rank) ** 1.5))


def _spec(rank: int, base: str, price: float, price_decimals: int, quantity_decimals: int) -> SymbolSpec:
    per_block = _activity(rank)
    block_s = BASE_BLOCK_S
    while per_block * block_s // BASE_BLOCK_S < WISHED_TRADES_PER_BLOCK:
        block_s *= 2
    trades = per_block * block_s // BASE_BLOCK_S
    median_quote = 180.0 * rank**-0.25
    key = stable_hash("symbol", base, "USDT")
    return SymbolSpec(
        name=f"{base}USDT",
        base=base,
        quote="USDT",
        rank=rank,
        price_ticks=max(200, round(price * 10**price_decimals)),
        price_decimals=price_decimals,
        quantity_decimals=quantity_decimals,
        block_s=block_s,
        phase_s=key % block_s,
        trades_per_block=trades,
        median_lots=max(1.0, median_quote / price * 10**quantity_decimals),
        key=key,
    )
