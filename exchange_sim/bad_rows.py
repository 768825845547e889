"""REST klines that no exchange should send: for tests of what a reader does with them."""

from __future__ import annotations

import json
from typing import Final, Literal

#: off_grid: one row half a second late. doubled: one row twice. disordered: two rows changed places. short: a row
#: without its last columns. text: a price that is no number. future: a row of tomorrow. inverted: high below low.
#: trades: one trade more than there was. hole: the exchange lacks the middle third. empty: no rows.
RowFault = Literal[
    "off_grid", "doubled", "disordered", "short", "text", "future", "inverted", "trades", "hole", "empty"
]
DAY_MS: Final = 86_400_000


def spoil(body: bytes, how: RowFault) -> bytes:
    """The answer with the middle row made wrong, or rows left out."""
    rows = json.loads(body)
    middle = len(rows) // 2
    if how == "empty" or not rows:
        return b"[]"
    if how == "hole":
        rows = rows[: len(rows) // 3] + rows[-(len(rows) // 3) :]
    elif how == "doubled":
        rows.insert(middle, rows[middle])
    elif how == "disordered":
        rows[middle], rows[-1] = rows[-1], rows[middle]
    elif how == "short":
        rows[middle] = rows[middle][:10]
    else:
        column, value = {
            "off_grid": (0, rows[middle][0] + 500),
            "text": (4, "much"),
            "future": (0, rows[middle][0] + DAY_MS),
            "inverted": (2, "0.00000001"),
            "trades": (8, rows[middle][8] + 1),
        }[how]
        rows[middle][column] = value
        if how == "future":
            rows[middle][6] += DAY_MS
    return json.dumps(rows, separators=(",", ":")).encode()
