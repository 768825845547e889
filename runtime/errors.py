"""Errors by what the loop does about them (docs/ARCHITECTURE.md, errors).

RuntimeFault
├── Retryable  network, broker, deadlock, connection lost: back-off and try again
├── Unusable   this record can never work: dead letter, go on
└── Fenced     another writer holds the checkpoint now: stop with a non-zero exit

Anything else is our bug: crash, the supervisor restarts, start is recovery.
"""

from __future__ import annotations


class RuntimeFault(Exception):
    """Base of the errors that a loop decides about."""


class Retryable(RuntimeFault):
    """The same call may work later."""


class Unusable(RuntimeFault):
    """This record can never work."""


class Fenced(RuntimeFault):
    """A newer writer has taken the checkpoint."""
