"""Keeps one set of streams connected: connects with back-off, reconnects after a cut, and replaces the connection
(planned, on serverShutdown, on silence) by opening the new one first and letting both run for a while."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from market.stream import Stream
from producer.connections import AttemptBudget, Handover, Hosts, StreamKey
from producer.feed import Feed
from producer.session import CannotConnect, Listener, Session
from producer.settings import FeedSettings
from producer.subscriptions import ControlFrame
from runtime.clock import Clock
from runtime.health import Health
from runtime.lifecycle import Stop
from runtime.logs import get_logger
from runtime.retry import STARTING_TRIES, Backoff

CHECK_INTERVAL_S = 0.5
HANDOVER_CHECK_INTERVAL_S = 0.05
#: Back-off after a cut, and between replacements for silence: a symbol that the exchange does not serve
#: must not cost the other streams of its connection a new one every few seconds.
FIRST_DELAY_S = 1.0
SILENCE_FIRST_DELAY_S = 5.0
SILENCE_MAX_DELAY_S = 600.0
#: Connections age a little differently, so that they are not all replaced at the same time.
LIFETIME_SPREAD = 0.1

log = get_logger(__name__)


@dataclass
class Exchange:
    """What all slots of a process share."""

    settings: FeedSettings
    feed: Feed
    clock: Clock
    rng: random.Random
    health: Health
    stop: Stop
    budget: AttemptBudget = field(default_factory=AttemptBudget)
    reconnects: Counter[str] = field(default_factory=Counter)


class Slot:
    """One connection's place: `name` is c1, c2, ...; each session in it is c1.1, c1.2, ..."""

    def __init__(self, name: str, keys: tuple[StreamKey, ...], exchange: Exchange, stop: Stop | None = None) -> None:
        """`stop` ends this one alone; without it the end of all is its end."""
        self.name = name
        self.keys = keys
        self._x = exchange
        self._stop = stop or exchange.stop
        self._living: set[Session] = set()
        self._hosts = Hosts(exchange.settings.ws_urls())
        max_delay_s = exchange.settings.reconnect_max_delay_s
        self._backoff = Backoff(exchange.rng, FIRST_DELAY_S, max_delay_s, quick_tries=STARTING_TRIES)
        self._silence_backoff = Backoff(
            exchange.rng, SILENCE_FIRST_DELAY_S, SILENCE_MAX_DELAY_S, SILENCE_FIRST_DELAY_S / 2
        )
        self._sessions_opened = 0
        self._shutdown_announced = False
        self._replace_at_s = 0.0
        self._replace_not_before_s = 0.0
        self._silence_not_before_s = 0.0
        self._listener = Listener(self._on_frame, exchange.feed.on_listening, self._on_shutdown)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self.keys)

    def change(self, added: Sequence[StreamKey], removed: Collection[StreamKey]) -> None:
        """Carry these streams too, and those no more, on the connections that are there."""
        gone = [key.name for key in self.keys if key in removed]
        self.keys = tuple(key for key in self.keys if key not in removed) + tuple(added)
        for session in self._living:
            session.change([key.name for key in added], gone)

    async def run(self) -> None:
        """Until asked to stop. Raises what is no end of a connection: too many bad frames, or a bug."""
        current: Session | None = None
        try:
            while not self._stop.is_set:
                if current is None:
                    current = await self._connect()
                elif current.ended.done():
                    self._lost(current)
                    current = None
                elif reason := self._due_replacement():
                    current = await self._replace(current, reason)
                else:
                    await self._pause(current, CHECK_INTERVAL_S)
        finally:
            if current is not None:
                await current.close(unsubscribe=True)

    async def _connect(self) -> Session | None:
        """A new session, waiting as long as it takes; None when asked to stop meanwhile."""
        while not self._stop.is_set:
            delay_s = self._backoff.next_delay_s() if self._sessions_opened else 0.0
            if await self._stop.wait(max(delay_s, self._budget_wait_s())):
                return None
            session = await self._try_once()
            if session is not None:
                return session
            self._x.reconnects["unreachable"] += 1
        return None

    async def _try_once(self) -> Session | None:
        """One attempt at the current host. A failure is logged and noted, and the next attempt asks the next host."""
        self._sessions_opened += 1
        self._x.budget.take(self._x.clock.monotonic_s())
        session = Session(f"{self.name}.{self._sessions_opened}", self._names, self._listener, self._x.clock)
        url = self._hosts.current()
        self._living.add(session)
        session.ended.add_done_callback(lambda _: self._living.discard(session))
        try:
            await session.open(url, self._x.settings.max_frame_bytes)
        except CannotConnect as error:
            self._living.discard(session)
            self._hosts.failed()
            self._x.feed.on_unreachable(self._names, f"exchange cannot be reached: {error}")
            self._x.health.set_problem(self.name, f"exchange cannot be reached: {error}")
            log.warning("exchange_cannot_be_reached", connection=session.name, error=str(error))
            return None
        self._shutdown_announced = False
        spread = 1 - LIFETIME_SPREAD * self._x.rng.random()
        self._replace_at_s = self._x.clock.monotonic_s() + self._x.settings.connection_lifetime_s * spread
        self._x.health.clear_problem(self.name)
        log.info("connected", connection=session.name, url=url, streams=len(self._names))
        return session

    def _lost(self, session: Session) -> None:
        """A connection ended that nobody replaced."""
        reason = session.ended.result()
        self._x.reconnects["cut"] += 1
        self._x.feed.on_gone(session.name, self._names, reason)
        self._x.health.set_problem(self.name, f"connection lost: {reason}")
        log.warning("connection_lost", connection=session.name, reason=reason)

    def _due_replacement(self) -> str:
        """Why the connection should be replaced now; empty when it should not."""
        now_s = self._x.clock.monotonic_s()
        silent = self._x.feed.silent_streams(self._names)
        if not silent:
            self._silence_backoff.reset()
        # These come each second, trades or not: when all of them rest, the exchange is silent.
        seconds = {key.name for key in self.keys if key.stream is Stream.KLINE_1S}
        if seconds and seconds.issubset(silent):
            self._x.health.set_problem(f"{self.name} feed", "connected, but no kline_1s comes")
        else:
            self._x.health.clear_problem(f"{self.name} feed")
        if now_s < self._replace_not_before_s or self._budget_wait_s() > 0:
            return ""
        if self._shutdown_announced:
            return "server_shutdown"
        if now_s >= self._replace_at_s:
            return "planned"
        if silent and now_s >= self._silence_not_before_s:
            self._silence_not_before_s = now_s + self._silence_backoff.next_delay_s()
            log.warning("streams_silent", connection=self.name, count=len(silent), streams=silent[:5])
            return "silence"
        return ""

    async def _replace(self, old: Session, reason: str) -> Session:
        """Open the successor while the old connection goes on; returns the one that stays."""
        self._x.reconnects[reason] += 1
        new = await self._try_once()
        if new is None:
            self._replace_not_before_s = self._x.clock.monotonic_s() + self._backoff.next_delay_s()
            return old
        feed = self._x.feed
        deadline_s = self._x.clock.monotonic_s() + self._x.settings.rotation_overlap_s
        handover = Handover(feed.living_streams(self._names), deadline_s)
        feed.on_delivered[new.name] = handover.delivered
        while not (handover.is_over(self._x.clock.monotonic_s()) or new.ended.done() or old.ended.done()):
            await self._pause(new, HANDOVER_CHECK_INTERVAL_S)
            if self._stop.is_set:
                break
        feed.on_delivered.pop(new.name, None)
        stays, goes = (old, new) if new.ended.done() else (new, old)
        await goes.close()
        detail = f"replaced ({reason})" if goes is old else goes.ended.result()
        feed.on_gone(goes.name, self._names, detail)
        log.info("connection_replaced", reason=reason, stays=stays.name, not_yet_delivered=handover.awaited)
        return stays

    async def _pause(self, session: Session, seconds: float) -> None:
        """Wait, but not beyond the session's end or the call to stop."""
        stopping = asyncio.ensure_future(self._stop.wait())
        waits: set[asyncio.Future[Any]] = {session.ended, stopping}
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    def _on_frame(self, connection: str, frame: bytes) -> ControlFrame | None:
        control = self._x.feed.on_frame(connection, frame)
        if control is None and self._backoff.attempt:
            self._backoff.reset()
        return control

    def _on_shutdown(self, connection: str) -> None:
        log.warning("exchange_announces_shutdown", connection=connection)
        self._shutdown_announced = True

    def _budget_wait_s(self) -> float:
        return self._x.budget.wait_s(self._x.clock.monotonic_s())
