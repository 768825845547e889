"""How many bytes the log of a topic takes on the broker.

The driver does not have this question, so this file states it: DescribeLogDirs v1 of the Kafka protocol.
"""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String


class _LogDirsResponseV1(Response):
    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "directories",
            Array(
                ("error_code", Int16),
                ("directory", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("topic", String("utf-8")),
                        (
                            "partitions",
                            Array(
                                ("partition", Int32),
                                ("bytes", Int64),
                                ("offset_lag", Int64),
                                ("is_future", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class _LogDirsRequestV1(RequestStruct):
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = _LogDirsResponseV1
    SCHEMA = Schema(("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))))


class _LogDirsRequest(Request[_LogDirsRequestV1]):
    API_KEY = 35

    def __init__(self, partitions: dict[str, list[int]]) -> None:
        self._partitions = partitions

    def build(self, request_struct_class: type[_LogDirsRequestV1]) -> _LogDirsRequestV1:
        return request_struct_class(list(self._partitions.items()))


async def read_sizes(admin: AIOKafkaAdminClient, partitions: dict[str, list[int]]) -> dict[str, int]:
    """Bytes of the log files of each topic, its partitions together. Raises KafkaError."""
    response = await admin._send_request(_LogDirsRequest(partitions))
    sizes: dict[str, int] = {}
    for directory in response.to_object()["directories"]:
        for topic in directory["topics"]:
            held = sum(partition["bytes"] for partition in topic["partitions"])
            sizes[topic["topic"]] = sizes.get(topic["topic"], 0) + held
    return sizes
