"""`python -m producer.record --output FILE --seconds N [--json]`: the exchange's raw traffic onto a tape.

Listens as the producer does (EXCHANGE_WS_URL, SYMBOLS, STREAMS; reconnects, rotates), but keeps the frames as they
came. For depth it takes a REST snapshot of each symbol too, so that a book can be built from the tape alone.
Prints the digest of what the tape says (market/digest.py), which a replay of it on any machine prints too.
Exit code 0; 1 when nothing came, the bound was reached or the disk took no more; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from market.digest import Digest
from market.errors import BadFrame
from market.stream import Stream
from market.tape_account import TapeAccount
from market.tape_lines import TapedFrame
from producer.buffer import Buffer
from producer.connections import plan_connections
from producer.feed import BadShare, Feed
from producer.settings import RecordSettings
from producer.slots import Exchange, Slot
from producer.subscriptions import ControlFrame
from producer.symbols import wanted_symbols
from producer.tape import EXTENSION, TapeAnswer, TapeFrame, TapeHeader, TapeLimits, TapeWriter, part_path
from runtime import logs
from runtime.clock import Clock, SystemClock, new_random
from runtime.exchange_rest import ExchangeRest, RestRefused, RestUnavailable
from runtime.health import Health
from runtime.kafka_client import load_topics
from runtime.lifecycle import Stop, end, run_service
from runtime.logs import get_logger
from runtime.operations.recordings import registered
from runtime.retry import Backoff
from runtime.settings import load
from runtime.symbol_choice import SymbolChoice

SNAPSHOT_LIMIT = 1000
SNAPSHOT_ATTEMPTS = 3
FLUSH_INTERVAL_S = 1.0
MAX_SECONDS = 7 * 24 * 3600

log = get_logger(__name__)


class Recording:
    """The tape and the account of what is on it."""

    def __init__(self, tape: TapeWriter, streams: Sequence[Stream]) -> None:
        self.tape = tape
        self.account = TapeAccount(build_seconds=Stream.KLINE_1S not in streams)
        self.bad_frames = 0
        self._digest = Digest()

    def frame(self, received_at_ms: int, connection: str, frame: bytes) -> None:
        """Keep a frame and take it into the account."""
        text = frame.decode("utf-8", "backslashreplace")
        self.tape.frame(TapeFrame(received_at_ms, connection, text))
        if self.tape.is_full:
            return
        try:
            self.account.take(TapedFrame(float(received_at_ms), connection, text.encode()))
        except BadFrame:
            self.bad_frames += 1
        self._digest.take(self.account.settled())

    def finish(self) -> str:
        """End the tape; the digest of what it says."""
        self._digest.take(self.account.finish())
        digest = self._digest.text()
        self.tape.finish(digest)
        return digest


class TapedFeed(Feed):
    """A feed that keeps each frame before it looks into it; its records go nowhere."""

    recording: Recording
    wall: Clock

    def on_frame(self, connection: str, frame: bytes) -> ControlFrame | None:
        """Keep the frame, then handle it as the producer does."""
        self.recording.frame(self.wall.now_ms(), connection, frame)
        return super().on_frame(connection, frame)


async def record(settings: RecordSettings, arguments: argparse.Namespace, stop: Stop) -> None:
    """Record until the time is over, the tape is full, or a signal comes."""
    clock, rng, health = SystemClock(), new_random(), Health("record")
    rest = ExchangeRest(settings.rest_urls(), clock)
    ending = asyncio.create_task(_end_after(arguments.seconds, stop))
    choice = SymbolChoice(settings.symbols, settings.source, settings.exchange_rest_url, settings.data_dir)
    symbols = await wanted_symbols(choice, rest, health, Backoff(rng), stop)
    streams = settings.stream_list()
    header = TapeHeader(
        started_at_ms=clock.now_ms(),
        exchange=settings.ws_urls()[0],
        symbols=symbols,
        streams=[s.value for s in streams],
    )
    plan = plan_connections(symbols, streams, settings.streams_per_connection)
    limits = TapeLimits(settings.record_max_bytes, settings.record_part_bytes, settings.record_part_s)
    registration = registered(settings.data_dir, arguments.output)
    with TapeWriter(arguments.output, header, limits, clock) as tape, registration as asked:
        recording = Recording(tape, streams)
        feed = TapedFeed(
            (key for keys in plan for key in keys), load_topics(), Buffer(0), clock, BadShare(1, max_share=1.0)
        )
        feed.recording, feed.wall = recording, clock
        exchange = Exchange(settings, feed, clock, rng, health, stop)
        slots = [asyncio.create_task(Slot(f"c{n}", keys, exchange).run()) for n, keys in enumerate(plan, 1)]
        asking = asyncio.create_task(_ask_rest(symbols, streams, rest, tape, clock))
        while not (stop.is_set or tape.is_full):
            await stop.wait(FLUSH_INTERVAL_S)
            tape.flush(rotate=asked.is_asked_to_rotate())
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{tape.frames} frames, {tape.byte_count / 1e6:.1f} MB ")
        stop.set()
        await end(asking)
        outcomes = await asyncio.gather(*slots, return_exceptions=True)
        await asyncio.gather(ending, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        digest = recording.finish()
    _report(arguments, recording, digest)
    if tape.problem:
        sys.stderr.write(f"ended early: {tape.problem}\n")
    if tape.problem or not tape.frames:
        raise SystemExit(1)


async def _end_after(seconds: float, stop: Stop) -> None:
    await stop.wait(seconds)
    stop.set()


async def _ask_rest(
    symbols: Sequence[str], streams: Sequence[Stream], rest: ExchangeRest, tape: TapeWriter, clock: Clock
) -> None:
    """What a book and a chart need beside the frames. Without REST the tape is still good for the rest."""
    names = json.dumps(list(symbols), separators=(",", ":"))
    wanted: list[tuple[str, dict[str, str | int]]] = [("exchangeInfo", {"symbols": names})]
    if Stream.DEPTH in streams:
        wanted.extend(("depth", {"symbol": symbol, "limit": SNAPSHOT_LIMIT}) for symbol in symbols)
    for endpoint, query in wanted:
        for _ in range(SNAPSHOT_ATTEMPTS):
            try:
                body = await asyncio.to_thread(rest.get, endpoint, query)
            except (RestUnavailable, RestRefused) as error:
                log.warning("no_rest_answer", endpoint=endpoint, error=str(error))
                await asyncio.sleep(getattr(error, "retry_after_s", 1.0))
                continue
            text = body.decode("utf-8", "backslashreplace")
            tape.answer(TapeAnswer(clock.now_ms(), f"/api/v3/{endpoint}?{urlencode(query)}", text))
            break


def _report(arguments: argparse.Namespace, recording: Recording, digest: str) -> None:
    tape = recording.tape
    if arguments.json:
        report = {
            "digest": digest,
            "frames": tape.frames,
            "bad_frames": recording.bad_frames,
            "bytes": tape.byte_count,
            "file": str(arguments.output),
            "files": [str(file) for file in tape.files],
            "windows": {name: list(window) for name, window in recording.account.windows_ms().items()},
            "problem": tape.problem or None,
        }
        sys.stdout.write(json.dumps(report) + "\n")
        return
    parts = f" in {len(tape.files)} parts" if len(tape.files) > 1 else ""
    sys.stdout.write(f"{arguments.output}: {tape.frames} frames, {tape.byte_count} bytes{parts}\n{digest}\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="candlewire record", description="Record the exchange's raw traffic.")
    parser.add_argument("--output", type=Path, required=True, help=f"file to write, ends with {EXTENSION}")
    parser.add_argument("--seconds", type=float, required=True, help="how long to record")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args(argv)
    if not arguments.output.name.endswith(EXTENSION):
        parser.error(f"--output {arguments.output}: the name must end with {EXTENSION}")
    for path in (arguments.output, part_path(arguments.output, 2)):
        if path.exists():
            parser.error(f"--output {arguments.output}: {path.name} exists already, nothing is overwritten")
    if not arguments.output.parent.is_dir():
        parser.error(f"--output {arguments.output}: no such directory")
    if not 0 < arguments.seconds <= MAX_SECONDS:
        parser.error(f"--seconds {arguments.seconds}: must be above 0 and at most {MAX_SECONDS}")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = _parse(argv)
    settings = load(RecordSettings)
    logs.configure("record", settings.log_level, as_json=settings.log_json, stream=sys.stderr)

    async def run(stop: Stop) -> None:
        await record(settings, arguments, stop)

    run_service(run)


if __name__ == "__main__":
    main()
