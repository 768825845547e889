"""Looks at the database all the time while faults last: what must never go back, and never does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVERY_S = 1.0
STOP_TIMEOUT_S = 10.0
NEWEST_CANDLES = 400

#: Name, query (key columns, then one value that only grows).
GROWING = {
    "checkpoint": "select topic, topic_id::text, partition, next_offset from kline_checkpoint",
    "epoch": "select topic, topic_id::text, partition, epoch from kline_checkpoint",
    "watermark": "select symbol, stream, extract(epoch from event_time) from symbol_watermark",
    "closed candle": "select symbol, open_time, is_closed::int * 1000000 + revision from aggregated_kline"
    f" where interval = '1m' order by open_time desc limit {NEWEST_CANDLES}",
}


class Watch:
    """A thread that asks once a second; `regressed` names what was seen to go back."""

    def __init__(self, rows: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self.regressed: list[str] = []
        self._rows = rows
        self._lock = threading.Lock()
        self._newest: dict[tuple[Any, ...], Any] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(STOP_TIMEOUT_S)

    @contextmanager
    def forgetting(self, *names: str) -> Iterator[None]:
        """A fault itself takes these back inside the block (a deleted checkpoint): begin anew with them."""
        with self._lock:
            yield
            for key in [key for key in self._newest if key[0] in names]:
                del self._newest[key]

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            for name, query in GROWING.items():
                with self._lock:
                    self._look(name, query)

    def _look(self, name: str, query: str) -> None:
        for *key, value in self._rows(query):
            place = (name, *key)
            before = self._newest.get(place)
            if before is not None and value < before:
                self.regressed.append(f"{name} {' '.join(map(str, key))}: {before} -> {value}")
            self._newest[place] = value
