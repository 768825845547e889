from collections.abc import Sequence
from typing import Any

class FetchRequest:
    def __init__(
        self,
        max_wait_time: int,
        min_bytes: int,
        max_bytes: int,
        isolation_level: int,
        topics: Sequence[tuple[str, Sequence[tuple[int, int, int]]]],
        rack_id: str = ...,
    ) -> None: ...

class FetchResponse:
    #: (topic, [(partition, error_code, highwater, ..., message_set)])
    topics: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]
