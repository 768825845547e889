"""SOURCE=binance with nobody there: it says so, keeps trying, and recovers when the exchange answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack_process import ROOT, SHORT_PAST, StackProcess, free_port, wait_for

RECOVERY_DEADLINE_S = 90.0


@pytest.mark.timeout(300)
def test_an_exchange_that_is_away_is_named_and_found_again(tmp_path: Path) -> None:
    port = free_port()
    variables = {
        "SOURCE": "binance",
        "EXCHANGE_WS_URL": f"ws://127.0.0.1:{port}",
        "EXCHANGE_REST_URL": f"http://127.0.0.1:{port}",
        "SYMBOLS": "BTCUSDT",
        "STREAMS": "kline_1s",
        "RECONNECT_MAX_DELAY_S": "2",
        **SHORT_PAST,
    }
    with StackProcess(tmp_path / "stack", **variables) as stack:
        assert stack.status()["source"] == "binance"
        wait_for("the words", lambda: any("cannot be reached" in line for line in stack.output), 30)
        names = {room["name"] for room in stack.status()["rooms"]}
        assert "exchange_sim" not in names
        environment = {**os.environ, **SHORT_PAST, "SIM_PORT": str(port), "HEALTH_PORT": "0"}
        exchange = subprocess.Popen([sys.executable, "-m", "exchange_sim"], cwd=ROOT, env=environment)
        try:
            with stack.connect() as connection:
                query = "select 1 from kline_1s having count(*) > 3"
                wait_for("rows", lambda: connection.execute(query).fetchone(), RECOVERY_DEADLINE_S)
        finally:
            exchange.send_signal(signal.SIGTERM)
            exchange.wait(10)
