"""A study on the disk: cut short, gone on with, made with other settings, or no study at all."""

import json
import math

import numpy as np
import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.record import Record, read, rounded

HEADER = {"seed": 0, "datasets": {"words": ["a", "b"]}, "shares": (0.001, 1.0), "versions": {"torch": "2.0"}}


def made(path, n: int = 3) -> Record:
    record = Record(path, HEADER)
    for step in range(n):
        record.add({"scale": "32x2", "seed": 0, "step": step, "f1": 1 / 3})
    return record


@pytest.fixture()
def path(tmp_path):
    return tmp_path / "deep" / "study.jsonl"


def test_rows_are_on_the_disk_at_once_and_come_back(path):
    record = made(path)
    header, rows = read(path)
    assert header == json.loads(json.dumps(HEADER)) and rows == record.rows
    assert [row["step"] for row in rows] == [0, 1, 2] and rows[0]["f1"] == 0.33333
    assert len(path.read_text().splitlines()) == 4


def test_it_goes_on_where_it_was(path):
    made(path)
    again = Record(path, HEADER)
    assert again.has(scale="32x2", step=1) and not again.has(step=3) and not again.has(step=1, scale="64x3")
    assert again.find(step=2) == again.rows[2] and again.find(step=9) is None
    again.add({"step": 3})
    assert [row["step"] for row in read(path)[1]] == [0, 1, 2, 3]


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_last_line_that_was_cut_is_dropped(path, kept):
    made(path)
    whole = path.read_text()
    last = whole.rstrip("\n").rindex("\n") + 1
    path.write_text(whole[: last + kept] if kept > 0 else whole[:kept])
    assert [row["step"] for row in read(path)[1]] == [0, 1]
    record = Record(path, HEADER)
    assert path.read_text() == whole[:last] and not record.has(step=2)
    record.add({"step": 2})
    assert [row["step"] for row in read(path)[1]] == [0, 1, 2]


def test_a_line_broken_in_the_middle_is_named_and_nothing_is_lost(path):
    made(path)
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2][:9] + "\n"
    path.write_text("".join(lines))
    for touch in (read, lambda path: Record(path, HEADER)):
        with pytest.raises(UserError, match=r"line 3 of .* is broken"):
            touch(path)
    assert path.read_text() == "".join(lines)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 1}, r"another seed \(0, now 1\): choose another folder"),
        ({"datasets": {"words": ["a", "c"]}}, "another datasets"),
        ({"shares": (0.1,)}, "another shares"),
        ({"aggregate": "max"}, r"another aggregate \(None, now 'max'\)"),
    ],
)
def test_other_settings_are_refused_by_name(path, changed, says):
    made(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=says) as caught:
        Record(path, HEADER | changed)
    assert "\n" not in str(caught.value) and path.read_bytes() == before
    with pytest.raises(UserError, match="another datasets"):
        Record(path, {name: value for name, value in HEADER.items() if name != "datasets"})


def test_other_texts_are_refused_where_they_are_known(path):
    made(path)
    Record(path, HEADER | {"texts": "aa"})  # the record is older than the entry
    assert read(path)[0]["texts"] == "aa"
    with pytest.raises(UserError, match=r"another texts \('aa', now 'bb'\)"):
        Record(path, HEADER | {"texts": "bb"})


def test_a_record_without_rows_binds_nobody(path):
    Record(path, HEADER)
    Record(path, HEADER | {"seed": 7}).add({"step": 0})
    assert read(path)[0]["seed"] == 7
    path.write_text("")
    assert Record(path, HEADER).rows == [] and read(path)[0]["seed"] == 0


def test_other_versions_are_written_beside_their_rows(path):
    made(path, 1)
    Record(path, HEADER | {"versions": {"torch": "3.0"}}).add({"step": 1})
    Record(path, HEADER).add({"step": 2})
    header, rows = read(path)
    assert header["versions"] == {"torch": "2.0"}
    assert [row.get("versions") for row in rows] == [None, {"torch": "3.0"}, None]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"scale,seed\n1,2\n", b"[1, 2]\n", b"5\n", b'{"a": 1}\n', b"\xff\xfe\n"]
)
def test_what_is_no_record_is_said_and_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a record of runs"):
        read(path)
    if content:
        with pytest.raises(UserError, match="is not a record"):
            Record(path, HEADER)
        assert path.read_bytes() == content


def test_no_record_and_no_place_for_one_are_said(path, tmp_path):
    for there in (path, tmp_path):
        with pytest.raises(UserError, match="is not a record of runs"):
            read(there)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"cannot write .*study\.jsonl: .*; choose another folder"):
        Record(tmp_path / "file" / "study.jsonl", HEADER)
    assert (tmp_path / "file").read_text() == "mine"


def test_numbers_keep_five_digits_and_what_is_not_finite_becomes_null(path):
    content = {
        "a": [1 / 3, math.nan, (math.inf, -math.inf)],
        5: {"n": 123456789, "x": 123456.789, "b": True, "s": None},
    }
    expected = {"a": [0.33333, None, [None, None]], "5": {"n": 123456789, "x": 123460.0, "b": True, "s": None}}
    assert rounded(content) == expected
    assert rounded({"x": np.float64(2 / 3)}) == {"x": 0.66667}
    record = Record(path, HEADER)
    record.add(content)
    assert "NaN" not in (text := path.read_text()) and "Infinity" not in text
    assert read(path)[1] == [json.loads(json.dumps(expected))] == record.rows
