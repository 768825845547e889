"""The parts of a producer put together, and the order in which they stop: connections first, then what they brought."""

from __future__ import annotations

import asyncio

from producer.buffer import Buffer
from producer.connections import StreamKey
from producer.feed import BadShare, Feed, TooManyBadFrames
from producer.metrics import ProducerMetrics
from producer.publish import Linger, Pump
from producer.roster import Roster
from producer.settings import ProducerSettings
from producer.slots import Exchange
from producer.symbols import check_symbols, wanted_symbols
from runtime.clock import Clock, new_random
from runtime.exchange_rest import ExchangeRest
from runtime.health import Health
from runtime.kafka_batches import BatchProducer, open_batches
from runtime.kafka_client import load_topics
from runtime.lifecycle import Stop, end
from runtime.logs import get_logger
from runtime.operations.room_control import RoomControl, chosen
from runtime.retry import ENGINE_MAX_DELAY_S, STARTING_TRIES, Backoff
from runtime.symbol_choice import SymbolChoice

FLUSH_TIMEOUT_S = 1.5
REST_MAX_DELAY_S = 30.0

log = get_logger(__name__)


async def run_producer(settings: ProducerSettings, health: Health, clock: Clock, stop: Stop) -> None:
    """Run until asked to stop. Ends the process with code 1 when too many frames are bad."""
    rng = new_random()
    rest = ExchangeRest(settings.rest_urls(), clock)
    rest_backoff = Backoff(rng, max_delay_s=REST_MAX_DELAY_S, quick_tries=STARTING_TRIES)
    choice = SymbolChoice(settings.symbols, settings.source, settings.exchange_rest_url, settings.data_dir)
    configured = await wanted_symbols(choice, rest, health, rest_backoff, stop)
    if not configured:
        return
    control = RoomControl(settings.database_url, "producer", settings.data_dir, health)
    control.start()
    await asyncio.to_thread(control.wait_first)
    symbols = chosen(configured, control.told.choices) or configured
    buffer = Buffer(settings.produce_buffer_bytes)
    bad_share = BadShare(settings.bad_frame_window_frames, settings.bad_frame_max_share)
    keys = [StreamKey(symbol, stream) for symbol in symbols for stream in settings.stream_list()]
    feed = Feed(keys, load_topics(), buffer, clock, bad_share)
    feed.report_start()
    exchange = Exchange(settings, feed, clock, rng, health, stop)
    roster = Roster(exchange, settings.stream_list(), configured)
    linger = Linger(
        settings.produce_fact_linger_ms / 1000, settings.produce_bulk_linger_ms / 1000, settings.produce_stall_s
    )

    def on_progress() -> None:
        feed.report_losses()
        health.set_ready()

    pump = Pump(buffer, linger, clock, health, on_progress)
    ProducerMetrics(feed, buffer, pump, exchange).register()

    async def open_client() -> BatchProducer | None:
        backoff = Backoff(rng, max_delay_s=ENGINE_MAX_DELAY_S)
        return await open_batches(settings.kafka_bootstrap_servers, "producer", health, backoff, stop)

    log.info("starting", symbols=len(symbols), streams=settings.streams)
    pumping = asyncio.create_task(pump.run(open_client))
    checking = asyncio.create_task(check_symbols(symbols, rest, health, Backoff(rng, max_delay_s=60.0), stop))
    listening = asyncio.create_task(roster.run(symbols, control))
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({listening, pumping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except TooManyBadFrames as error:
        log.error("too_many_bad_frames", error=str(error))
        raise SystemExit(1) from None
    finally:
        stop.set()
        control.stop()
        await asyncio.gather(listening, return_exceptions=True)
        await pump.finish(FLUSH_TIMEOUT_S)
        await end(checking)
        await asyncio.gather(pumping, stopping, return_exceptions=True)
        rest.close()
