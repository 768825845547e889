"""Repair against a real database and the simulated exchange: filled, absent, refused, given up, reopened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aggregator.repair import Limits, Repair
from aggregator.repair_store import add_gaps, lock_ledger, settle, store_seconds
from aggregator.roll_up import roll_up
from aggregator.settings import AggregatorSettings
from aggregator.work import Work
from exchange_sim.service import RunningExchange
from market.interval import HOUR_MS, Interval
from market.kline import Kline, Source
from runtime.clock import ManualClock, SystemClock
from runtime.database import connect
from runtime.exchange_rest import ExchangeRest, RestUnavailable
from runtime.health import Health
from tests.holed_ledger import SYMBOL, exchange_in_thread, holed_ledger
from tests.stack_process import wait_for


@pytest.fixture(scope="module")
def exchange() -> Iterator[RunningExchange]:
    with exchange_in_thread() as running:
        yield running


@pytest.fixture(autouse=True)
def without_faults(exchange: RunningExchange) -> Iterator[None]:
    yield
    exchange.faults.clear()


def test_gaps_are_filled_and_every_value_is_the_exchanges(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 1_500, [(10, 11), (100, 1_400), (1_450, 1_460)]) as ledger:
        ledger.run(ledger.repair())
        assert ledger.gaps() == [
            (10, 11, "repaired", "rest", 0),
            (100, 1_400, "repaired", "rest", 0),
            (1_450, 1_460, "repaired", "rest", 0),
        ]
        assert ledger.sources() == {"rest": 1_311, "stream": 189}
        roll_up(ledger.connection)
        account = ledger.account(with_exchange=True)
        assert account.is_exact, str(account)
        assert ledger.one("select count(*) from dirty_hour") >= 1


def test_small_gaps_close_together_take_one_question(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 300, [(10 * i, 10 * i + 2) for i in range(1, 29)]) as ledger:
        repair = ledger.repair()
        assert repair.step(ledger.connection)
        assert not repair.step(ledger.connection)
        assert {state for _, _, state, _, _ in ledger.gaps()} == {"repaired"}


def test_what_the_exchange_lacks_is_absent_and_asked_for_again(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 120, [(30, 90)]) as ledger:
        ledger.order(fault="rest_rows", rows="hole", count=1)
        ledger.run(ledger.repair())
        states = [(state, end - start) for start, end, state, _, _ in ledger.gaps()]
        assert [state for state, _ in states] == ["repaired", "absent", "repaired"]
        assert sum(seconds for _, seconds in states) == 60
        assert ledger.account().is_exact
        assert ledger.one("select next_attempt_at > now() + interval '23 hours' from kline_gap where state = 'absent'")
        ledger.make_due()
        ledger.run(ledger.repair())
        assert ledger.gaps() == [(30, 90, "repaired", "rest", 0)]


def test_an_empty_answer_about_a_moment_ago_is_asked_for_again(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 40)], age_ms=30_000) as ledger:
        ledger.order(fault="rest_rows", rows="empty", count=1)
        ledger.run(ledger.repair())
        assert ledger.gaps() == [(20, 40, "open", None, 0)]
        assert ledger.one("select last_error from kline_gap") == "the exchange does not have it yet"
        ledger.make_due()
        ledger.run(ledger.repair())
        assert ledger.gaps() == [(20, 40, "repaired", "rest", 0)]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("off_grid", "off the 1s grid"),
        ("doubled", "comes twice"),
        ("disordered", "out of order"),
        ("short", "bad klines answer"),
        ("text", "bad klines answer"),
        ("future", "from the future"),
        ("inverted", "outside low..high"),
        ("trades", "trade chain"),
    ],
)
def test_a_bad_batch_is_refused_whole_and_tried_again(
    fresh_database: str, exchange: RunningExchange, rows: str, reason: str
) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        repair = ledger.repair(max_delay_s=600.0)
        ledger.order(fault="rest_rows", rows=rows, count=1)
        assert repair.step(ledger.connection)
        assert ledger.gaps() == [(20, 41, "open", None, 1)]
        assert reason in ledger.one("select last_error from kline_gap")
        assert ledger.one("select next_attempt_at > now() from kline_gap")
        assert ledger.sources() == {"stream": 39}
        ledger.make_due()
        ledger.run(repair)
        assert ledger.gaps() == [(20, 41, "repaired", "rest", 1)]


def test_a_gap_that_fails_too_often_is_unrepairable(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        ledger.order(fault="rest_rows", rows="off_grid", count=3)
        repair = ledger.repair()
        for _ in range(3):
            ledger.make_due()
            assert repair.step(ledger.connection)
        assert ledger.gaps() == [(20, 41, "unrepairable", "rest", 3)]
        assert "off the 1s grid" in ledger.one("select last_error from kline_gap")
        ledger.make_due()
        assert not repair.step(ledger.connection)
        assert ledger.account().is_exact


def test_a_symbol_that_is_not_listed_is_unrepairable_at_once(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        ledger.connection.execute("update kline_gap set symbol = 'GONEUSDT'")
        ledger.run(ledger.repair())
        assert [gap[2] for gap in ledger.gaps()] == ["unrepairable"]
        assert "does not list the symbol" in ledger.one("select last_error from kline_gap")


def test_the_exchange_being_away_is_no_failed_attempt(fresh_database: str, exchange: RunningExchange) -> None:
    # It stands still: the second that it has to wait does not pass before the next step.
    clock = ManualClock(SystemClock().now_ms())
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)], clock=clock) as ledger:
        repair = ledger.repair()
        ledger.order(fault="rest_status", status=503, count=1)
        with pytest.raises(RestUnavailable, match="HTTP 503"):
            repair.step(ledger.connection)
        ledger.order(fault="rest_status", status=429, count=1)
        ledger.make_due()
        with pytest.raises(RestUnavailable, match="HTTP 429: wait 1 s") as told:
            repair.step(ledger.connection)
        assert told.value.retry_after_s == 1
        assert ledger.gaps() == [(20, 41, "open", None, 0)]
        ledger.make_due()
        assert not repair.step(ledger.connection), "asked while it had been told to wait"
        assert "HTTP 429" in ledger.one("select last_error from kline_gap")


def test_only_one_repairs_at_a_time(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        with connect(fresh_database, "other") as other:
            other.execute("select pg_advisory_lock(7320005)")
            ledger.repair().run_until(ledger.connection, float("inf"))
            assert ledger.gaps() == [(20, 41, "open", None, 0)]
            other.execute("select pg_advisory_unlock(7320005)")
        ledger.repair().run_until(ledger.connection, float("inf"))
        assert ledger.gaps() == [(20, 41, "repaired", "rest", 0)]


def test_without_1s_klines_the_seconds_are_built_from_trades(fresh_database: str) -> None:
    with (
        exchange_in_thread(sim_1s_klines=False) as running,
        holed_ledger(fresh_database, running, 300, [(50, 250)]) as ledger,
    ):
        ledger.run(ledger.repair())
        assert ledger.gaps() == [(50, 250, "repaired", "trades", 0)]
        assert ledger.sources() == {"stream": 100, "trades": 200}
        assert ledger.one("select count(*) from kline_1s where first_trade_id is null") == 0
        assert ledger.one("select count(*) from kline_1s where trade_count = 0 and first_trade_id <> -1") == 0
        roll_up(ledger.connection)
        assert ledger.account().is_exact


@pytest.mark.parametrize(("column", "state"), [(None, "equal"), ("base_volume", "corrected")])
def test_a_suspect_is_settled(fresh_database: str, exchange: RunningExchange, column: str | None, state: str) -> None:
    with holed_ledger(fresh_database, exchange, 60, []) as ledger:
        roll_up(ledger.connection)
        ledger.connection.execute("delete from dirty_minute")
        ledger.connection.execute(
            "insert into suspect_range (symbol, from_time, to_time, reason) values (%s, to_timestamp(%s),"
            " to_timestamp(%s), 'trade_chain')",
            [SYMBOL, ledger.from_ms / 1000 + 10, ledger.from_ms / 1000 + 20],
        )
        if column is not None:
            ledger.connection.execute(
                f"update kline_1s set {column} = {column} + 5 where open_time = to_timestamp(%s)",
                [ledger.from_ms / 1000 + 15],
            )
        ledger.connection.commit()
        ledger.run(ledger.repair())
        assert ledger.one("select state from suspect_range") == state
        assert ledger.sources().get("rest", 0) == (1 if column else 0)
        assert ledger.one("select count(*) from dirty_minute") == (1 if column else 0)
        account = ledger.account(with_exchange=True)
        assert not account.phantom, str(account)


def test_a_suspect_whose_rows_the_database_refuses_holds_up_no_other(
    fresh_database: str, exchange: RunningExchange
) -> None:
    with holed_ledger(fresh_database, exchange, 60, []) as ledger:
        for start_s in (10, 30):
            ledger.connection.execute(
                "insert into suspect_range (symbol, from_time, to_time, reason) values (%s, to_timestamp(%s),"
                " to_timestamp(%s), 'trade_chain')",
                [SYMBOL, ledger.from_ms / 1000 + start_s, ledger.from_ms / 1000 + start_s + 5],
            )
        ledger.connection.execute("update kline_1s set base_volume = base_volume + 5")
        ledger.connection.execute(
            "alter table kline_1s add constraint refusing"
            f" check (source <> 'rest' or open_time < to_timestamp({ledger.from_ms // 1000 + 20}))"
        )
        ledger.connection.commit()
        repair = ledger.repair(max_delay_s=600.0)
        assert repair.step(ledger.connection)
        assert "refusing" in ledger.one("select last_error from suspect_range order by from_time desc")
        assert repair.step(ledger.connection)
        assert ledger.one("select state from suspect_range order by from_time") == "corrected"


def test_a_late_row_that_comes_while_the_exchange_answers_stays(
    fresh_database: str, exchange: RunningExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        ask = ledger.rest.klines

        def ask_while_a_row_comes(symbol: str, interval: Interval, start_ms: int, end_ms: int) -> list[Kline]:
            klines = ask(symbol, interval, start_ms, end_ms)
            late = klines[10]
            with connect(fresh_database, "inserter") as other, other.transaction():
                assert store_seconds(other, symbol, [late], Source.STREAM) == 1
                lock_ledger(other, symbol)
                settle(other, symbol, [late.open_time_ms], "repaired", "stream")
            return klines

        monkeypatch.setattr(ledger.rest, "klines", ask_while_a_row_comes)
        assert ledger.repair().step(ledger.connection)
        assert ledger.sources() == {"rest": 20, "stream": 40}
        assert [(gap[2], gap[3]) for gap in ledger.gaps()] == [
            ("repaired", "rest"),
            ("repaired", "stream"),
            ("repaired", "rest"),
        ]
        roll_up(ledger.connection)
        assert ledger.account().is_exact


def test_a_new_gap_is_left_alone_while_it_may_grow(fresh_database: str, exchange: RunningExchange) -> None:
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        ledger.connection.execute("update kline_gap set detector = 'feed', detected_at = now() + interval '1 minute'")
        ledger.connection.commit()
        ledger.run(ledger.repair())
        assert ledger.gaps() == [(20, 41, "open", None, 0)]


def test_the_worker_waits_as_told_and_then_repairs(fresh_database: str) -> None:
    health = Health("aggregator")
    with exchange_in_thread() as running, holed_ledger(fresh_database, running, 60, [(20, 41)]) as ledger:
        settings = AggregatorSettings(
            database_url=fresh_database, exchange_rest_url=f"http://127.0.0.1:{running.port}", repair_max_delay_s=1
        )
        work = Work(settings, health, SystemClock())
        ledger.order(fault="rest_status", status=429, count=1)
        work.repair()
        assert "HTTP 429: wait 1 s" in str(health.report(readiness=False)[1]["reasons"])

        def repaired() -> bool:
            work.repair()
            return ledger.gaps() == [(20, 41, "repaired", "rest", 0)]

        asked = running.faults.used
        wait_for("the repair", repaired, 60)
        assert asked == {"rest_status": 1}
        assert health.report(readiness=False)[1]["reasons"] == []


def test_the_repair_keeps_within_its_share_of_the_weight(fresh_database: str) -> None:
    """Each hour is a gap far from the next: questions of 2, until the share of the minute is used up."""
    with (
        exchange_in_thread(sim_limits=True, sim_weight_per_minute=120) as running,
        holed_ledger(fresh_database, running, 60, [(20, 41)]) as ledger,
    ):
        rest = ExchangeRest([f"http://127.0.0.1:{running.port}"], SystemClock(), 3_000)
        rest.symbol_infos()
        repair = Repair(rest, SystemClock(), Limits(settle_s=0.0))
        for hour in range(1, 60):
            start_ms = ledger.from_ms - hour * HOUR_MS
            with ledger.connection.transaction():
                add_gaps(ledger.connection, SYMBOL, [start_ms], "operator")
        steps = 0
        while repair.step(ledger.connection):
            steps += 1
        open_gaps = ledger.one("select count(*) from kline_gap where state = 'open'")
        assert 0 < steps < 60
        assert open_gaps == 60 - steps
        assert ledger.one("select count(*) from kline_gap where attempts > 0") == 0


def test_a_wrong_answer_about_the_first_part_of_a_long_gap_is_found_by_the_last(
    fresh_database: str, exchange: RunningExchange
) -> None:
    """Only the last question closes the chain of trades: what it finds wrong may have come with an earlier one."""
    with holed_ledger(fresh_database, exchange, 1_500, [(50, 1_450)]) as ledger:
        repair = ledger.repair()
        ledger.order(fault="rest_rows", rows="trades", count=1)
        assert repair.step(ledger.connection)
        assert "trade_count" in str(ledger.account(with_exchange=True).skewed), "the first answer was wrong"
        assert repair.step(ledger.connection)
        assert [gap[2] for gap in ledger.gaps()] == ["open", "repaired"]
        assert "trade chain" in ledger.one("select last_error from kline_gap where state = 'open'")
        assert ledger.one("select reason from suspect_range where state = 'open'") == "trade_chain"
        ledger.connection.execute("update kline_gap set next_attempt_at = now() + interval '1 hour'")
        ledger.connection.commit()
        ledger.run(repair)
        assert ledger.one("select state from suspect_range") == "corrected"
        ledger.make_due()
        ledger.run(repair)
        assert {gap[2] for gap in ledger.gaps()} == {"repaired"}
        roll_up(ledger.connection)
        assert ledger.account(with_exchange=True).is_exact


def test_an_absent_range_whose_next_try_was_not_noted_is_asked_for_again(
    fresh_database: str, exchange: RunningExchange
) -> None:
    """As a kill between the rows and the note leaves it."""
    with holed_ledger(fresh_database, exchange, 60, [(20, 41)]) as ledger:
        ledger.connection.execute("update kline_gap set state = 'absent', next_attempt_at = null")
        ledger.connection.commit()
        ledger.run(ledger.repair())
        assert ledger.gaps() == [(20, 41, "repaired", "rest", 0)]
