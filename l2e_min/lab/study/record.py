"""A study's numbers on the disk: one line of JSON a model, so that a stopped study goes on where it was.

The first line says how it was measured; a study goes on only with the same settings on the same texts.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from l2e_min.lab.errors import UserError

DIGITS = 5
"""Significant digits that are kept."""


class Record:
    """The lines of ``path``. ``header``: how the numbers are made; UserError where the file was made otherwise."""

    def __init__(self, path: Path, header: dict):
        self.path, self.header = path, rounded(header)
        if path.is_file() and path.stat().st_size:
            there, self.rows = read(path)
            for name in {**there, **self.header}:
                if there.get(name) != self.header.get(name) and name != "versions":
                    was, now = there.get(name), self.header.get(name)
                    raise UserError(
                        f"{path} was measured with another {name} ({was!r}, now {now!r}): choose another folder"
                    )
            self._rewrite()  # drops a line that a kill has cut
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.rows = []
            self._rewrite()

    def has(self, **key) -> bool:
        """Whether there is a row with these entries."""
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.rows)

    def add(self, row: dict) -> None:
        """Appends a row; it is on the disk when this returns."""
        row = rounded(row)
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
    """(header, rows) of a record; a last line that was cut is left out. UserError: no record there."""
    lines = list(_lines(path))
    if not lines or "header" not in lines[0]:
        raise UserError(f"{path} is not a record of a study; make one with: l2e study MODEL --out DIR")
    return lines[0]["header"], lines[1:]


def _lines(path: Path) -> Iterator[dict]:
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    for line in text[: text.rfind("\n") + 1].splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def rounded(content):
    """Nested plain JSON with its numbers at ``DIGITS`` digits; NaN becomes None (JSON has no NaN)."""
    if isinstance(content, dict):
        return {str(key): rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    if isinstance(content, float):
        return None if content != content else float(f"{content:.{DIGITS}g}")
    return content
