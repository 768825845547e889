"""Which connections there are: those of the symbols that are wanted now, none while an operator has paused the room.

A symbol that is added goes onto a connection with room for it, one that is removed leaves its connection, both by a
message on the open connection; the other streams notice nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from market.stream import Stream
from producer.connections import BOOK_STREAMS, StreamKey, plan_connections
from producer.slots import Exchange, Slot
from runtime.lifecycle import Stop
from runtime.logs import get_logger
from runtime.operations.room_control import RoomControl, chosen

CHECK_S = 0.5

log = get_logger(__name__)


class Roster:
    """The slots of one producer. `configured` is what SYMBOLS names."""

    def __init__(self, exchange: Exchange, streams: Sequence[Stream], configured: Sequence[str]) -> None:
        self._x = exchange
        self._streams = tuple(streams)
        self._configured = configured
        self._symbols: list[str] = []
        self._slots: dict[Slot, tuple[asyncio.Task[None], Stop]] = {}
        self._count = 0
        self._is_paused = False

    def wanted(self, control: RoomControl) -> list[str]:
        """The symbols to follow now."""
        return chosen(self._configured, control.told.choices)

    def keys_of(self, symbols: Sequence[str]) -> list[StreamKey]:
        """Every stream of these symbols."""
        return [StreamKey(symbol, stream) for symbol in symbols for stream in self._streams]

    async def run(self, symbols: Sequence[str], control: RoomControl) -> None:
        """Until asked to stop; `symbols` are those that the feed knows already. Raises as Slot.run."""
        self._symbols = list(symbols)
        stopping = asyncio.ensure_future(self._x.stop.wait())
        try:
            if control.told.is_paused:
                await self._pause(control)
            else:
                self._open_all()
            while not self._x.stop.is_set:
                await self._obey(control)
                tasks: set[asyncio.Future[Any]] = {task for task, _ in self._slots.values()}
                done, _ = await asyncio.wait({*tasks, stopping}, timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            stopping.cancel()
            await self._close(list(self._slots))

    async def _obey(self, control: RoomControl) -> None:
        told = control.told
        wanted = self.wanted(control)
        if wanted and set(wanted) != set(self._symbols):
            await self._change(wanted)
        if told.is_paused and not self._is_paused:
            await self._pause(control)
        elif self._is_paused and not told.is_paused:
            self._is_paused = False
            self._open_all()
        control.applied(is_paused=self._is_paused)

    async def _pause(self, control: RoomControl) -> None:
        """Leave the exchange, and write down that nothing comes."""
        await self._close(list(self._slots))
        self._x.feed.pause(self.keys_of(self._symbols), f"paused by an operator ({control.told.by})")
        self._is_paused = True

    def _open_all(self) -> None:
        for keys in plan_connections(self._symbols, self._streams, self._x.settings.streams_per_connection):
            self._open(keys)

    def _open(self, keys: tuple[StreamKey, ...]) -> None:
        self._count += 1
        stop = Stop()
        slot = Slot(f"c{self._count}", keys, self._x, stop)
        self._slots[slot] = (asyncio.create_task(slot.run()), stop)

    async def _close(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            self._slots[slot][1].set()
        await asyncio.gather(*(self._slots[slot][0] for slot in slots), return_exceptions=True)
        for slot in slots:
            del self._slots[slot]
            self._x.health.clear_problem(slot.name)
            self._x.health.clear_problem(f"{slot.name} feed")

    async def _change(self, wanted: Sequence[str]) -> None:
        """Other symbols from now on."""
        added = self.keys_of([symbol for symbol in wanted if symbol not in self._symbols])
        removed = set(self.keys_of([symbol for symbol in self._symbols if symbol not in wanted]))
        log.info(
            "symbols_changed",
            added=sorted({key.symbol for key in added}),
            removed=sorted({key.symbol for key in removed}),
        )
        self._symbols = list(wanted)
        self._x.feed.add(added)
        if self._is_paused:
            self._x.feed.pause(added, "the room is paused")
        else:
            for slot in self._slots:
                if removed.intersection(slot.keys):
                    slot.change((), removed)
            for is_book in (False, True):
                self._place([key for key in added if (key.stream in BOOK_STREAMS) is is_book], is_book=is_book)
        self._x.feed.remove(removed)
        await self._close([slot for slot in self._slots if not slot.keys])

    def _place(self, keys: list[StreamKey], *, is_book: bool) -> None:
        """These streams onto connections of their kind that have room, the rest onto new ones."""
        most = self._x.settings.streams_per_connection
        for slot in self._slots:
            room = most - len(slot.keys)
            if keys and room > 0 and slot.keys and (slot.keys[0].stream in BOOK_STREAMS) is is_book:
                slot.change(keys[:room], ())
                keys = keys[room:]
        for first in range(0, len(keys), most):
            self._open(tuple(keys[first : first + most]))
