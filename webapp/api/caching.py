"""What caches may keep: answers about what is over, for a moment; after that they ask again with the ETag.

The ETag, a digest of the body, and the answer 304 are the framework's (ConditionalGetMiddleware).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: A repair or a revision shows after this long at the latest.
SETTLED_MAX_AGE_S: Final = 30
SETTLED: Final = f"public, max-age={SETTLED_MAX_AGE_S}"
#: For our own pages, which must see a repair at once: kept, but never used without asking.
ASKED_AGAIN: Final = "public, no-cache"
LIVE: Final = "no-cache, no-store, must-revalidate"


class Settled(msgspec.Struct, frozen=True):
    """A body that only a repair or a revision changes."""

    body: Any
