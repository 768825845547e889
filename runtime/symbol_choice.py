"""Which symbols `top:N` means: asked from the exchange once, kept in DATA_DIR, the same for every room and restart.

Each room asks for itself and may be the first. The first answer is linked into place, which only one can do; all
others read it. Rooms that share no DATA_DIR (containers) each have their own answer, as they would without the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Final

from runtime.exchange_rest import ExchangeRest, RestUnavailable, resolve_symbols
from runtime.logs import get_logger

DIRECTORY: Final = "symbols"

log = get_logger(__name__)


def forget_choices(data_dir: Path) -> None:
    """Let the next start ask again."""
    for path in (data_dir / DIRECTORY).glob("*.json"):
        path.unlink(missing_ok=True)


class SymbolChoice:
    """The SYMBOLS setting of one stack and exchange. `source` and `rest_url` as in ExchangeSettings."""

    def __init__(self, wanted: str, source: str, rest_url: str, data_dir: Path) -> None:
        self._wanted = wanted.strip().lower() if wanted.strip().lower().startswith("top:") else wanted
        # The simulated exchange has another port in each run, but the same market.
        self._exchange = rest_url if source == "binance" else source
        # A tape always gives the same answer, and another tape another one.
        self._is_kept = self._wanted.startswith("top:") and source != "tape"
        name = hashlib.sha256(f"{self._wanted}@{self._exchange}".encode()).hexdigest()[:16]
        self._path = data_dir / DIRECTORY / f"{name}.json"
        self._resolved: list[str] = []

    def stored(self) -> list[str] | None:
        """What an earlier question was answered with; None when there is no such answer, or none is kept."""
        if not self._is_kept:
            return None
        try:
            found = json.loads(self._path.read_text("utf-8"))["symbols"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        is_list = isinstance(found, list) and bool(found) and all(isinstance(symbol, str) for symbol in found)
        return found if is_list else None

    def resolve(self, rest: ExchangeRest) -> list[str]:
        """The symbols, the same in every call. Raises as resolve_symbols, RestUnavailable also when there are none."""
        if not self._resolved:
            self._resolved = self.stored() or self._ask(rest)
        return self._resolved

    def _ask(self, rest: ExchangeRest) -> list[str]:
        symbols = resolve_symbols(self._wanted, rest)
        if not symbols and self._wanted.startswith("top:"):
            raise RestUnavailable("the exchange names no traded symbol")
        if not self._is_kept:
            return symbols
        try:
            self._keep(symbols)
        except OSError as error:
            log.warning("symbols_not_kept", path=str(self._path), error=str(error))
        return self.stored() or symbols

    def _keep(self, symbols: list[str]) -> None:
        """Put the answer in place unless another room was first. A file that cannot be read is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}.new")
        content = {"wanted": self._wanted, "exchange": self._exchange, "symbols": symbols}
        fresh.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        try:
            self._path.hardlink_to(fresh)
        except FileExistsError:
            if self.stored() is None:
                fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)
