"""The short form of `make chaos`: after a dose of each of its faults every second and minute is accounted for."""

from __future__ import annotations

import pytest

from tests.chaos.scenario import Options, run, table
from tests.chaos.short import short

SYMBOLS = 4
SEED = 4


@pytest.mark.timeout(900)
def test_after_one_dose_of_each_fault_the_account_is_exact() -> None:
    result = run(short(), Options(SYMBOLS, SEED))
    assert result.is_good, table([result])
    assert result.account.symbols == SYMBOLS
