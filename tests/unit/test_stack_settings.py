"""Wrong, misspelt and contradicting settings are all named at once, and nothing is made."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.check import Checked, SettingsError, check, read
from stack.settings import DEFAULT_SYMBOLS


@pytest.fixture
def free(tmp_path: Path) -> dict[str, str]:
    """Two ports that are free now, and an own DATA_DIR."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    return {"PORT": str(ports[0]), "STREAM_PORT": str(ports[1]), "DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


def problems_of(environment: dict[str, str], env_file: Path = Path("none")) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        check(environment, env_file)
    return caught.value.problems


def accepted(environment: dict[str, str], env_file: Path = Path("none")) -> Checked:
    return check(environment, env_file)


def test_the_defaults_are_those_of_the_contract(free: dict[str, str]) -> None:
    settings = accepted(free).settings
    assert settings.source == "auto"
    assert settings.symbols == DEFAULT_SYMBOLS == "BTCUSDT,ETHUSDT,BNBUSDT,SOLUSDT,XRPUSDT"
    assert settings.streams == "kline_1s,kline_1m,trade,depth,depth20,bookTicker,miniTicker"


def test_everything_wrong_is_in_one_message(free: dict[str, str], taken: int) -> None:
    wrong = {
        **free,
        "SOURCE": "bianance",
        "SYMBOLS": "BTC-USDT",
        "STREAMS": "kline_2s",
        "STREAM_PORT": str(taken),
        "STREAM_MAX_CLIENTS": "many",
        "SYMBOL": "BTCUSDT",
        "SIM_SEED": "-1",
        "KAFKA_RETENTION_MS": "1",
        "EXCHANGE_WS_URL": "ws://127.0.0.1:1",
    }
    text = "\n".join(problems_of(wrong))
    for name in (*(set(wrong) - {*free, "SYMBOL"}), f"port {taken}", "did you mean SYMBOLS?", "EXCHANGE_REST_URL"):
        assert name in text, name
    assert "'auto', 'binance', 'sim' or 'tape'" in text
    assert "kline_1s" in text
    assert not Path(free["DATA_DIR"]).exists()


def test_a_misspelt_name_hides_nothing_else(free: dict[str, str], taken: int) -> None:
    """All values are good: what is wrong are a name, a port and a file."""
    text = "\n".join(problems_of({**free, "STREAM_PORT": str(taken), "SYMBOL": "X", "SOURCE": "tape", "TAPE": "none"}))
    for part in ("did you mean SYMBOLS?", f"port {taken} is occupied", "TAPE: none cannot be read"):
        assert part in text


def test_the_password_of_a_wrong_address_is_not_shown(free: dict[str, str]) -> None:
    (line,) = problems_of({**free, "DATABASE_URL": "mysql://me:hunter2@db/x"})
    assert "mysql://me:...@db/x" in line


def test_other_commands_do_not_speak_of_ports(free: dict[str, str], taken: int) -> None:
    with pytest.raises(SettingsError) as caught:
        read({**free, "PORT": str(taken), "SYMBOLS": "BTC-USDT"}, Path("none"))
    assert [line.partition(":")[0] for line in caught.value.problems] == ["SYMBOLS"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SYMBOL", "SYMBOLS"),
        ("SOURSE", "SOURCE"),
        ("DATADIR", "DATA_DIR"),
        ("STREAM_PROT", "STREAM_PORT"),
        ("KAFKA_RETENTION_MSEC", "KAFKA_RETENTION_MS"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("STREAM_MAX_CLIENT", "STREAM_MAX_CLIENTS"),
    ],
)
def test_a_near_miss_in_the_environment_is_named_with_what_was_meant(
    free: dict[str, str], name: str, meant: str
) -> None:
    assert problems_of({**free, name: "1"}) == [f"{name}: no such variable; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "SHELL", "KAFKA_HOME", "JAVA_HOME", "SOURCE_DATE_EPOCH", "XDG_DATA_DIRS", "MAKEFLAGS", "TERM"],
)
def test_what_other_programs_read_is_left_alone(free: dict[str, str], name: str) -> None:
    accepted({**free, name: "x"})


def test_every_unknown_key_of_the_env_file_is_named(free: dict[str, str], tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("SYMBOLS=ETHUSDT\nFAVOURITE_COLOUR=blue\nPOSTGRES_PASSWORD=x\n")
    assert problems_of(free, env_file) == ["FAVOURITE_COLOUR in .env: no such variable"]


def test_the_environment_goes_before_the_env_file_and_that_before_the_default(
    free: dict[str, str], tmp_path: Path
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("SYMBOLS=ETHUSDT\nSIM_SEED=7\nSTREAM_MAX_CLIENTS=9\n")
    checked = accepted({**free, "SYMBOLS": "btcusdt, ETHUSDT,BTCUSDT"}, env_file)
    assert checked.settings.symbols == "BTCUSDT,ETHUSDT"
    assert checked.settings.sim_seed == 7
    assert checked.given["STREAM_MAX_CLIENTS"] == "9"


def test_an_empty_value_counts_as_none(free: dict[str, str]) -> None:
    assert accepted({**free, "SYMBOLS": "", "TAPE": ""}).settings.symbols == DEFAULT_SYMBOLS


def test_a_tape_must_be_given_and_readable(free: dict[str, str], tmp_path: Path) -> None:
    tape = {**free, "SOURCE": "tape"}
    assert problems_of(tape) == ["TAPE: SOURCE=tape needs the path of a tape"]
    (missing,) = problems_of({**tape, "TAPE": str(tmp_path / "missing.gz")})
    assert "missing.gz cannot be read: No such file" in missing
    broken = tmp_path / "broken.gz"
    broken.write_bytes(b"no gzip at all")
    (unreadable,) = problems_of({**tape, "TAPE": str(broken)})
    assert "broken.gz cannot be read" in unreadable
    good = tmp_path / "good.gz"
    good.write_bytes(gzip.compress(b"{}\n"))
    assert accepted({**tape, "TAPE": str(good), "TAPE_SPEED": "max"}).settings.tape == good


def test_both_addresses_of_an_exchange_go_together(free: dict[str, str]) -> None:
    both = {**free, "EXCHANGE_WS_URL": "ws://127.0.0.1:1", "EXCHANGE_REST_URL": "http://127.0.0.1:2"}
    accepted(both)
    (one,) = problems_of({**free, "EXCHANGE_REST_URL": "http://127.0.0.1:2"})
    assert one.startswith("EXCHANGE_WS_URL: ")
    (simulated,) = problems_of({**both, "SOURCE": "sim"})
    assert simulated.startswith("SOURCE: ")


def test_one_port_cannot_serve_both(free: dict[str, str]) -> None:
    assert problems_of({**free, "STREAM_PORT": free["PORT"]}) == [f"STREAM_PORT: {free['PORT']} is PORT too"]
