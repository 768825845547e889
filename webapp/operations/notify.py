"""Telling of alerts: to the log, to /live through Kafka, to the webhook. Each way has its own queue and its own pace.

Only what OPERATOR_WEBHOOK_URL says is ever asked, redirects are not followed, answers are not read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from market.alert import OperatorAlert
from market.record_codec import encode_record
from runtime.clock import Clock, new_random
from runtime.kafka_client import KafkaError, KafkaProducer, load_topics, new_producer
from runtime.logs import get_logger
from runtime.retry import Backoff
from webapp.operations.alerts import Change
from webapp.operations.engines import one_line
from webapp.operations.snapshot import AlertRow
from webapp.settings import WebappSettings

if TYPE_CHECKING:
    import httpx

#: Alerts that wait for the broker, or for the webhook; the oldest go when there are more.
MAX_WAITING: Final = 200
SEND_DEADLINE_S: Final = 3.0
WEBHOOK_TRIES: Final = 4
#: Standing alerts are told again before the topic forgets them, for who begins to listen later.
RETELL_S: Final = 240.0
KEY: Final = b"operator"

log = get_logger(__name__)


class Notifier:
    """Owned by the collector's loop."""

    def __init__(self, settings: WebappSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._producer: KafkaProducer | None = None
        self._for_live: deque[OperatorAlert] = deque(maxlen=MAX_WAITING)
        self._for_webhook: deque[Change] = deque(maxlen=MAX_WAITING)
        self._wake = asyncio.Event()
        self._told_at_s = 0.0
        self._is_live_away = False

    def tell(self, changes: Iterable[Change]) -> None:
        """Log them now, queue them for the other ways."""
        for change in changes:
            alert = change.alert
            write = log.error if change.is_raised else log.info
            write(
                "operator_alert_raised" if change.is_raised else "operator_alert_recovered",
                condition=alert.condition,
                subject=alert.subject,
                message=alert.message,
                remedy=alert.remedy.command,
            )
            self._for_live.append(_record(alert))
            if self._settings.operator_webhook_url:
                self._for_webhook.append(change)
                self._wake.set()

    async def send_live(self, standing: Iterable[AlertRow]) -> None:
        """Send what waits for /live; what stands again from time to time. The broker away: it waits."""
        now_s = self._clock.monotonic_s()
        if now_s - self._told_at_s >= RETELL_S:
            self._told_at_s = now_s
            self._for_live.extend(_record(alert) for alert in standing)
        if not self._for_live:
            return
        waiting = list(self._for_live)
        try:
            async with asyncio.timeout(SEND_DEADLINE_S):
                producer = await self._connected()
                topic = load_topics().operator_alert.name
                sent = [await producer.send(topic, encode_record(alert), key=KEY) for alert in waiting]
                await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as error:
            if not self._is_live_away:
                self._is_live_away = True
                log.warning("alerts_wait_for_the_broker", waiting=len(waiting), error=one_line(error))
            await self.close()
            return
        self._is_live_away = False
        for _ in waiting:
            self._for_live.popleft()

    async def _connected(self) -> KafkaProducer:
        if self._producer is None:
            producer = new_producer(self._settings.kafka_bootstrap_servers, "webapp_alerts", linger_ms=0)
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def close(self) -> None:
        """Close the connection to the broker; the next send opens a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(SEND_DEADLINE_S):
                    await producer.stop()
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("producer_not_closed", error=one_line(error))

    async def run_webhook(self) -> None:
        """Post what is queued, in order, until cancelled; WEBHOOK_TRIES each, then it is given up."""
        if not self._settings.operator_webhook_url:
            return
        # Only who has a webhook pays for the client's memory.
        import httpx

        timeout_s = self._settings.operator_webhook_timeout_ms / 1000
        async with httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=False) as client:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._for_webhook:
                    await self._post(client, self._for_webhook.popleft(), timeout_s)

    async def _post(self, client: httpx.AsyncClient, change: Change, timeout_s: float) -> None:
        import httpx

        body = {
            "state": "raised" if change.is_raised else "recovered",
            "source": self._settings.source,
            "alert": msgspec.to_builtins(change.alert),
        }
        backoff = Backoff(new_random(), first_delay_s=1.0, max_delay_s=10.0, min_delay_s=0.2)
        error = ""
        for _ in range(WEBHOOK_TRIES):
            try:
                async with asyncio.timeout(timeout_s):
                    async with client.stream("POST", self._settings.operator_webhook_url, json=body) as answer:
                        if answer.is_success:
                            return
                        error = f"status {answer.status_code}"
            except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as failure:
                error = f"{type(failure).__name__} {failure}".strip()
            await asyncio.sleep(backoff.next_delay_s())
        log.warning("webhook_given_up", tries=WEBHOOK_TRIES, error=error, condition=change.alert.condition)


def _record(alert: AlertRow) -> OperatorAlert:
    return OperatorAlert(
        condition=alert.condition,
        subject=alert.subject,
        message=alert.message,
        remedy=alert.remedy.command,
        raised_at_ms=alert.raised_at_ms,
        recovered_at_ms=alert.recovered_at_ms,
        event_time_ms=alert.recovered_at_ms or alert.raised_at_ms,
    )
