"""Numbers of many runs on the disk: one line of JSON a run, so that what was stopped goes on where it was.

The first line says how they were measured; it goes on only with the same settings on the same texts.
"""

import json
import math
import os
from pathlib import Path

from l2e_min.lab.errors import UserError

DIGITS = 5
"""Significant digits that are kept."""


class Record:
    """The lines of ``path``. ``header``: how the numbers are made; UserError where the file was made otherwise.

    Other ``versions`` are no obstacle: the header keeps those it began with, and rows measured with others name them.
    """

    def __init__(self, path: Path, header: dict):
        self.path, self.header, self.rows = path, rounded(header), []
        self.versions = self.header.get("versions")
        if path.is_file() and path.stat().st_size:
            there, self.rows = read(path)
            if self.rows:  # with none, nothing has been measured otherwise
                self._hold_to(there)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._rewrite()  # drops a line that a kill has cut
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; choose another folder") from error

    def _hold_to(self, there: dict) -> None:
        for name in {**there, **self.header}:
            was, now = there.get(name), self.header.get(name)
            old = name == "texts" and was is None  # a record from before this entry
            if was != now and name != "versions" and not old:
                change = f"{was!r:.80}, now {now!r:.80}"
                raise UserError(f"{self.path} was measured with another {name} ({change}): choose another folder")
        self.header["versions"] = there.get("versions", self.versions)

    def find(self, **key) -> dict | None:
        """The row with these entries, None if there is none."""
        return next((row for row in self.rows if all(row.get(name) == value for name, value in key.items())), None)

    def has(self, **key) -> bool:
        """Whether there is a row with these entries."""
        return self.find(**key) is not None

    def add(self, row: dict) -> None:
        """Appends a row; it is on the disk when this returns."""
        row = rounded(row)
        if self.versions != self.header.get("versions"):
            row["versions"] = self.versions
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _rewrite(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        lines = [json.dumps(row) for row in ({"header": self.header}, *self.rows)]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)


def read(path: Path) -> tuple[dict, list[dict]]:
    """(header, rows) of a record; a last line that was cut is left out. UserError: no record there, or a broken one."""
    try:
        text = path.read_text(encoding="utf-8")
        header, *lines = text.split("\n")[:-1]  # behind the last line break nothing stands, or a line that was cut
        header = json.loads(header)["header"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a record of runs; give the file that a study wrote") from error
    rows = []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"line {number} of {path} is broken; delete it, and that run is made again") from error
    return header, rows


def rounded(content):
    """Nested plain JSON with its numbers at ``DIGITS`` digits; NaN and infinity become None (JSON has neither)."""
    if isinstance(content, dict):
        return {str(key): rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.{DIGITS}g}") if math.isfinite(content) else None
    return content
