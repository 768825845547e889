"""The exchange as a server: WebSocket, REST and fault control on one port, one source of data behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol
from urllib.parse import unquote

from aiohttp import web

from exchange_sim.bad_rows import spoil
from exchange_sim.connection import Connection
from exchange_sim.faults import IMMEDIATE, Fault, Faults, parse_fault
from exchange_sim.limits import Limiter, Verdict
from exchange_sim.rest import Ask, Rest
from exchange_sim.rest_params import Query, RestError
from exchange_sim.settings import SimSettings
from exchange_sim.statistics import Best
from exchange_sim.streams import Hub
from exchange_sim.symbols import SymbolSpec, text8
from exchange_sim.trades import Bar, TradeLog
from runtime.clock import Clock
from runtime.logs import get_logger

CONTROL_BODY_MAX_BYTES: Final = 4_096
REQUEST_LINE_MAX_BYTES: Final = 131_072
STOP_TIMEOUT_S: Final = 1.0
BOOKS_PER_REQUEST_MAX: Final = 20
LAST_DEPTHS_MAX: Final = 20
LOOPBACK: Final = frozenset(("127.0.0.1", "::1"))

log = get_logger(__name__)


class Source(Protocol):
    """Where the exchange's data come from: the live market or a tape."""

    @property
    def trade_log(self) -> TradeLog:
        """All trades."""
        ...

    def bars(self, spec: SymbolSpec, edges_ms: list[int], until_ms: int) -> list[Bar]:
        """What klines.bars gives of the trade log."""
        ...

    def now_ms(self) -> int:
        """The exchange's time (a tape has its own)."""
        ...

    def depth(self, spec: SymbolSpec, limit: int) -> bytes | None:
        """Body of REST depth, None when there is no book."""
        ...

    def best(self, spec: SymbolSpec) -> Best | None:
        """Best levels, None when there is no book."""
        ...

    def best_at_hand(self, spec: SymbolSpec) -> Best | None:
        """Best levels, None when no book is being kept: asking for all symbols must not start a book for each."""
        ...

    async def followed(self, streams: list[str]) -> None:
        """Streams that somebody is about to listen to."""
        ...

    def status(self) -> dict[str, object]:
        """For /sim/status."""
        ...


class Exchange:
    """HTTP routes and open connections."""

    def __init__(self, source: Source, hub: Hub, faults: Faults, settings: SimSettings, clock: Clock) -> None:
        self.source, self.hub, self.faults = source, hub, faults
        self._settings, self._clock = settings, clock
        self._limiter = Limiter(settings.sim_weight_per_minute, enforced=settings.sim_limits)
        self._rest = Rest(source.trade_log, settings.sim_weight_per_minute, source.bars)
        self._workers = ThreadPoolExecutor(settings.sim_rest_fetch_threads, thread_name_prefix="rest")
        self.connections: dict[Connection, None] = {}
        self._last_depth: dict[str, bytes] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0
        rest = self._rest
        self._quick: dict[str, tuple[Callable[[Query], int], Callable[[Ask], bytes]]] = {
            "ping": (lambda q: 1, rest.ping),
            "time": (lambda q: 1, rest.time),
        }
        self._slow: dict[str, tuple[Callable[[Query], int], Callable[[Ask], bytes]]] = {
            "klines": (lambda q: 2, rest.klines),
            "uiKlines": (lambda q: 2, rest.klines),
            "trades": (lambda q: 25, rest.trades),
            "historicalTrades": (lambda q: 25, rest.historical_trades),
            "aggTrades": (lambda q: 4, rest.aggregate_trades),
            "avgPrice": (lambda q: 2, rest.average_price),
            "ticker/price": (_ticker_weight, rest.price),
        }

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.router.add_get("/ws", self._raw)
        app.router.add_get("/ws/{streams:.+}", self._raw)
        app.router.add_get("/stream", self._combined)
        app.router.add_get("/api/v3/{endpoint:.+}", self._answer)
        app.router.add_get("/sim/status", self._status)
        app.router.add_post("/sim/faults", self._order_fault)
        app.router.add_delete("/sim/faults", self._clear_faults)
        app.router.add_route("*", "/{anything:.*}", self._nothing)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=STOP_TIMEOUT_S, max_line_size=REQUEST_LINE_MAX_BYTES
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.sim_host, self._settings.sim_port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close every connection and the port."""
        await asyncio.gather(*(c.close(1001, "server stops") for c in list(self.connections)), return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def order(self, fault: Fault) -> None:
        """Put a fault in force (tests call it in process). Raises ValueError for a bad bound."""
        log.info("fault_ordered", fault=fault.fault, stream=fault.stream, count=fault.count)
        if fault.fault not in IMMEDIATE:
            self.faults.order(fault)
            return
        self.faults.used[fault.fault] = self.faults.used.get(fault.fault, 0) + 1
        for connection in list(self.connections)[: fault.count or None]:
            if fault.fault == "cut":
                connection.cut()
            else:
                connection.send_shutdown_notice(self._now_ms())

    def _now_ms(self) -> int:
        return self.source.now_ms() + self.faults.skew_ms()

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        names = [name for name in request.match_info.get("streams", "").split("/") if name]
        return await self._serve(request, names, combined=False)

    async def _combined(self, request: web.Request) -> web.StreamResponse:
        names = [unquote(name) for name in request.query.get("streams", "").split("/") if name]
        return await self._serve(request, names, combined=True)

    async def _serve(self, request: web.Request, names: list[str], *, combined: bool) -> web.StreamResponse:
        address = request.remote or ""
        refused = self.faults.use("refuse")
        if refused is not None:
            return web.Response(status=refused.status)
        if not self._limiter.admits_connection(address, self._clock.now_ms()):
            return web.Response(status=429, headers={"Retry-After": "300"})
        connection = Connection(self.hub, self.source, self._settings, self._clock)
        connection.combined = combined
        connection.unit = 1000 if request.query.get("timeUnit", "").upper() == "MICROSECOND" else 1
        self.connections[connection] = None
        try:
            return await connection.serve(request, names)
        finally:
            self.connections.pop(connection, None)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        slow = self.faults.use("slow_rest")
        if slow is not None:
            await asyncio.sleep(slow.delay_ms / 1000)
        headers = {"Access-Control-Allow-Origin": "*"}
        try:
            broken = self.faults.use("rest_status")
            if broken is not None:
                raise RestError(broken.status, -1003 if broken.status in (418, 429) else -1008, "ordered fault")
            body = await self._body(request, headers)
        except RestError as error:
            if error.status in (418, 429):
                headers.setdefault("Retry-After", "1")
            return _json_error(error, headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _body(self, request: web.Request, headers: dict[str, str]) -> bytes:
        endpoint = request.match_info["endpoint"]
        symbols = self.source.trade_log.symbols
        query = Query(request.query, symbols)
        unit = 1000 if request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND" else 1
        ask = Ask(query, self._now_ms(), unit)
        found = self._quick.get(endpoint) or self._slow.get(endpoint)
        address = request.remote or ""
        if found is not None:
            self._charge(address, found[0](query), headers)
            if endpoint in self._quick:
                return found[1](ask)
            body = await self._compute(found[1], ask)
            return self._klines_as_ordered(query, body) if endpoint == "klines" else body
        if endpoint == "exchangeInfo":
            self._charge(address, 20, headers)
            statuses = {spec.name: self.faults.status_of(spec.name) for spec in query.symbols()[0]}
            return await self._compute(lambda a: self._rest.exchange_info(a, statuses), ask)
        if endpoint == "depth":
            limit = query.limit(100, 5000)
            self._charge(address, 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250, headers)
            return self._depth(query.symbol(), limit)
        if endpoint == "ticker/24hr":
            self._charge(address, _day_weight(query), headers)
            specs, _ = query.symbols()
            best = {spec.name: self.source.best_at_hand(spec) for spec in specs}
            return await self._compute(lambda a: self._rest.day(a, best), ask)
        if endpoint == "ticker/bookTicker":
            self._charge(address, _ticker_weight(query), headers)
            return self._book_tickers(query)
        raise RestError(404, -1000, f"No such endpoint: /api/v3/{endpoint}")

    def _klines_as_ordered(self, query: Query, body: bytes) -> bytes:
        """The answer, or what a fault or a setting makes of it."""
        interval = query.interval()
        if interval == "1s" and not self._settings.sim_1s_klines:
            raise RestError(400, -1120, "Invalid interval.")
        fault = self.faults.use("rest_rows", f"{query.symbol().name.lower()}@kline_{interval}")
        return body if fault is None else spoil(body, fault.rows)

    async def _compute(self, answer: Callable[[Ask], bytes], ask: Ask) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._workers, answer, ask)

    def _depth(self, spec: SymbolSpec, limit: int) -> bytes:
        body = self.source.depth(spec, limit)
        if body is None:
            raise RestError(503, -1008, "Server is currently overloaded: no order book of this symbol yet.")
        place = f"{spec.name.lower()}@depth{limit}"
        if place in self._last_depth and self.faults.use("stale_depth", place):
            return self._last_depth[place]
        self._last_depth[place] = body
        while len(self._last_depth) > LAST_DEPTHS_MAX:
            del self._last_depth[next(iter(self._last_depth))]
        return body

    def _book_tickers(self, query: Query) -> bytes:
        """Who names few symbols gets them all; of many, only those whose book is kept (a book takes ms to make)."""
        specs, single = query.symbols()
        from_source = self.source.best if len(specs) <= BOOKS_PER_REQUEST_MAX else self.source.best_at_hand
        rows = []
        for spec in specs:
            best = from_source(spec)
            if best is not None:
                rows.append(_book_ticker(spec, best))
        return json.dumps(rows[0] if single and rows else rows, separators=(",", ":")).encode()

    def _charge(self, address: str, weight: int, headers: dict[str, str]) -> None:
        verdict = self._limiter.charge(address, weight, self._clock.now_ms())
        headers["X-MBX-USED-WEIGHT"] = headers["X-MBX-USED-WEIGHT-1M"] = str(verdict.used)
        if verdict.status != 200:
            headers["Retry-After"] = str(verdict.retry_after_s)
            raise RestError(verdict.status, -1003, _limit_message(verdict, self._limiter.weight_per_minute))

    async def _status(self, request: web.Request) -> web.StreamResponse:
        if request.remote not in LOOPBACK:
            return await self._nothing(request)
        return web.json_response(
            {
                "source": self._settings.source,
                "seed": self._settings.sim_seed,
                "now_ms": self._now_ms(),
                "connections": len(self.connections),
                "frames_sent": self.hub.frames_sent,
                "faults": self.faults.listing(),
                "faults_used": self.faults.used,
                **self.source.status(),
            }
        )

    async def _order_fault(self, request: web.Request) -> web.StreamResponse:
        if request.remote not in LOOPBACK:
            return await self._nothing(request)
        body = await request.content.read(CONTROL_BODY_MAX_BYTES)
        try:
            self.order(parse_fault(body))
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"faults": self.faults.listing()})

    async def _clear_faults(self, request: web.Request) -> web.StreamResponse:
        if request.remote not in LOOPBACK:
            return await self._nothing(request)
        self.faults.clear()
        return web.json_response({"faults": []})

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        return _json_error(RestError(404, -1000, "Not found."), {})


def _json_error(error: RestError, headers: dict[str, str]) -> web.Response:
    body = {"code": error.code, "msg": error.message}
    return web.json_response(body, status=error.status, headers=headers)


def _ticker_weight(query: Query) -> int:
    return 2 if query.has("symbol") else 4


def _day_weight(query: Query) -> int:
    if query.has("symbol"):
        return 2
    count = len(query.symbols()[0]) if query.has("symbols") else 101
    return 2 if count <= 20 else 40 if count <= 100 else 80


def _limit_message(verdict: Verdict, limit: int) -> str:
    if verdict.status == 418:
        return f"Way too much request weight used; IP banned until {verdict.banned_until_ms}."
    return f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE."


def _book_ticker(spec: SymbolSpec, best: Best) -> dict[str, str]:
    (bid, bid_lots), (ask, ask_lots) = best
    return {
        "symbol": spec.name,
        "bidPrice": text8(bid * spec.price_unit),
        "bidQty": text8(bid_lots * spec.quantity_unit),
        "askPrice": text8(ask * spec.price_unit),
        "askQty": text8(ask_lots * spec.quantity_unit),
    }
