"""The short form of the kill scenario; `make chaos` runs the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.kills import run

SYMBOLS = 5
DURATION_S = 70.0


@pytest.mark.timeout(300)
def test_after_one_kill_of_everything_the_account_is_exact(tmp_path: Path) -> None:
    account = run(tmp_path, SYMBOLS, DURATION_S)
    assert account.is_exact, str(account)
    assert account.symbols == SYMBOLS
    assert account.minutes >= SYMBOLS
