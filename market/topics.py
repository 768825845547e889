"""The topics as data. Their names stand in kafka/topics.toml alone; a field here that the file lacks is an error."""

from __future__ import annotations

from enum import StrEnum

import msgspec

#: Small, so that a burst is forgotten soon; where nobody says otherwise.
SEGMENT_BYTES = 16 * 1024 * 1024


class TopicKind(StrEnum):
    """The loss policy follows from the kind everywhere."""

    FACT = "fact"
    STATE = "state"
    CHAIN = "chain"


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One topic; `name` is its name at the broker."""

    kind: TopicKind
    partitions: int
    retention_ms: int
    segment_ms: int
    writer: str
    readers: list[str]
    about: str
    segment_bytes: int = SEGMENT_BYTES
    name: str = ""


class Topics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All topics of the system, one field each."""

    kline_1s: Topic
    kline_1m: Topic
    trade: Topic
    depth: Topic
    depth20: Topic
    book_ticker: Topic
    mini_ticker: Topic
    feed_outage: Topic
    dead_frame: Topic
    candle: Topic
    operator_alert: Topic

    def all(self) -> tuple[Topic, ...]:
        """Every topic, in the order of the file."""
        return tuple(getattr(self, field) for field in self.__struct_fields__)


def parse_topics(toml_text: str) -> Topics:
    """Topics from the text of kafka/topics.toml. Raises msgspec.ValidationError naming the wrong place."""
    tables = msgspec.toml.decode(toml_text)
    for name, table in tables.items():
        table.setdefault("name", name)
    return msgspec.convert(tables, Topics)
