"""Files of recorded traffic: every compression, and a cut anywhere is told and read up to."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.tape_lines import TapedAnswer, TapedFrame
from runtime.tape_file import TapeError, TapeFile

HEADER = b'{"candlewire_tape":1,"started_at_ms":1,"exchange":"x","symbols":[],"streams":[],"part":1}\n'
END = b'{"candlewire_tape_end":1,"next":null,"digest":"v1:sha256:00","frames":3}\n'
LINES = [b'{"received_at_ms":%d,"connection":"c1.1","frame":"{\\"id\\":%d}"}\n' % (i, i) for i in range(400)]
WHOLE = HEADER + b"".join(LINES) + END
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd of two frames": lambda data: b"".join(map(zstandard.ZstdCompressor().compress, (data[:999], data[999:]))),
    "gzip of two members": lambda data: gzip.compress(data[:999]) + gzip.compress(data[999:]),
}


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_whole_tape(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tape.zst"
    path.write_bytes(COMPRESS[kind](WHOLE))
    tape = TapeFile(path)
    for _ in range(2):
        assert list(tape) == [line.rstrip(b"\n") for line in (HEADER, *LINES)]
        assert (tape.cut_at_line, tape.lines_read, tape.format) == (None, len(LINES) + 2, "own")
        assert tape.end is not None
        assert tape.end.digest == "v1:sha256:00"


@pytest.mark.parametrize("kind", COMPRESS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_cut_anywhere_is_told_and_read_up_to(kind: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.tape.zst"
    data = COMPRESS[kind](WHOLE)
    path.write_bytes(data[: int(len(data) * share)])
    try:
        tape = TapeFile(path)
    except TapeError:
        return  # not even the first line is there
    found = list(tape)
    assert found == [line.rstrip(b"\n") for line in (HEADER, *LINES)][: len(found)]
    assert tape.cut_at_line == tape.lines_read + 1  # the cut may lie in the checksum, behind the last line
    assert tape.end is None


def test_damage_in_the_middle_is_a_cut_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tape.zst"
    noise = [hashlib.sha256(line).hexdigest().encode() for line in LINES * 10]
    lines = [b'{"received_at_ms":1,"connection":"","frame":"%s"}\n' % text for text in noise]
    data = bytearray(gzip.compress(HEADER + b"".join(lines) + END))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    tape = TapeFile(path)
    found = list(tape)
    assert len(lines) // 4 < len(found)
    assert tape.cut_at_line == tape.lines_read + 1


def test_parts_are_one_recording(tmp_path: Path) -> None:
    go_on = b'{"candlewire_tape_end":1,"next":"a.0002.tape.zst","digest":null,"frames":1}\n'
    first, second = tmp_path / "a.tape.zst", tmp_path / "a.0002.tape.zst"
    first.write_bytes(COMPRESS["zstd"](HEADER + LINES[0] + go_on))
    second.write_bytes(COMPRESS["zstd"](HEADER + LINES[1] + END))
    tape = TapeFile(first)
    taped = [tape.parse(line) for line in tape]
    assert [frame.received_ms for frame in taped if isinstance(frame, TapedFrame)] == [0.0, 1.0]
    assert tape.cut_at_line is None
    second.unlink()
    assert len(list(tape)) == 2
    assert tape.cut_at_line == 4


@pytest.mark.parametrize("following", ["a.tape.zst", "/", "..", "\\u0000", "none.tape.zst"])
def test_a_part_that_names_no_other_file_is_a_cut(following: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tape.zst"
    go_on = b'{"candlewire_tape_end":1,"next":"%s","digest":null,"frames":1}\n' % following.encode()
    path.write_bytes(HEADER + LINES[0] + go_on)
    tape = TapeFile(path)
    assert len(list(tape)) == 2
    assert (tape.cut_at_line, tape.end) == (4, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b'[["1"]]', b"\x1f\x8b", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_tape_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(TapeError, match=str(path)):
        TapeFile(path)
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(TapeError, match="cannot be read"):
            TapeFile(wrong)


def test_every_recorded_capture_is_read_whole(shared_data: Path) -> None:
    formats = {}
    for path in sorted((shared_data / "captures").glob("*")):
        if ".json." in path.name:
            continue  # single REST answers
        tape = TapeFile(path)
        kinds = [type(tape.parse(line)) for line in tape]
        assert tape.cut_at_line is None
        assert TapedFrame in kinds or TapedAnswer in kinds
        formats[path.name.partition("_")[0]] = tape.format
    assert formats == {"cryptofeed": "cryptofeed", "hftbacktest": "hftbacktest", "polysim": "jsonl"}
