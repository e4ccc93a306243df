"""Seals: is a recorded number older than the code that makes it?

    python -m l2e_min.lab.ledger.seal      # what is out of step; exit status 1 if anything is
    python -m l2e_min.lab.ledger.seal C10 --because "a rename, no number moved"

A chapter that records a result seals it: the result keeps a short hash of every file's statements that led to it
(``code_slice.py``) and of every record it read (``data/results/scale_study.jsonl`` and others). Records, which commands
make in hours, are sealed in ``data/results/seals.json``.

To seal by hand is to vouch for something: that today's code would give the numbers that stand there. Nobody has run it.
So a reason is asked for and kept beside the seal. What stood on record before there were seals was sealed that way.
"""

import argparse
import hashlib
import json
import sys
from functools import cache
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger.code_slice import Code, Slice
from l2e_min.lab.paths import DATA, ROOT

MAKERS = {
    "bench_method.json": ("l2e_min.lab.bench_method", "measure"),
    "bench_pretrain": ("l2e_min.lab.bench_pretrain", "measure"),
    "choice_suite.json": ("l2e_min.lab.choice.record", "record"),
    "finetuning": ("l2e_min.lab.finetuning.compare", "compare"),
    "finetuning_cost.json": ("l2e_min.lab.finetuning.cost", "measure"),
    "finetuning_decrease.json": ("l2e_min.lab.finetuning.decrease", "make"),
    "finetuning_memel_bert": ("l2e_min.lab.finetuning.compare", "compare"),
    "mini_glue_baselines.json": ("l2e_min.lab.finetuning.baselines", "record"),
    "pretraining": ("l2e_min.lab.pretraining_study.record", "record"),
    "run_costs.json": ("book._tools.costs", "measure"),
    "scale_study.jsonl": ("l2e_min.lab.study.run", "study"),
    "toy_pretraining.json": ("l2e_min.lab.toy.pretraining_record", "make"),
}
"""Records in ``data/results`` (a file or a folder) and the function that makes each."""

SEALS = "seals.json"


class Seals:
    """The seals of one checkout."""

    def __init__(self, root: Path = ROOT, data: Path = DATA) -> None:
        self.code, self.results = Code(root), Path(data) / "results"
        self.content = cache(self._content)

    def of_result(self, chapter: str, claim: str) -> dict[str, str]:
        """The files and records behind a chapter's result, each with a hash. Empty: the book is not there."""
        found = self.code.behind_claim(chapter, claim)
        return {} if found is None else found.digests() | self._records(found)

    def of_record(self, name: str) -> dict[str, str]:
        """The same for a record of ``MAKERS``. UserError: another name."""
        if name not in MAKERS:
            raise UserError(f"no record {name!r}; known are {', '.join(MAKERS)}")
        return self.code.behind_function(*MAKERS[name]).digests()

    def problems(self) -> dict[str, str]:
        """What is out of step, by result or record: the files that have changed since, in words."""
        found = {path.stem: self._of_result_file(path) for path in self._result_files()}
        kept = self._kept()
        there = {path.name for path in self.results.iterdir()} - {"figures", SEALS}
        for name in sorted(there - {path.name for path in self._result_files()}):
            if name not in MAKERS:
                found[name] = "no maker is named in l2e_min/lab/ledger/seal.py"
            elif name not in kept:
                found[name] = "was never sealed"
            elif kept[name]["content"] != self.content(name):
                found[name] = "was made again and not sealed since"
            else:
                found[name] = difference(kept[name]["made_by"], self.of_record(name))
        return {name: text for name, text in found.items() if text}

    def seal(self, name: str, because: str) -> None:
        """Seals a result (``C10``) or a record (``finetuning``) by hand. UserError: there is none, or no reason."""
        if not because.strip():
            raise UserError('say why the numbers still stand: --because "..."')
        path = self.results / f"{name}.json"
        if path in self._result_files():
            content = json.loads(path.read_text(encoding="utf-8"))
            content["made_by"], content["sealed"] = self.of_result(content["chapter"], name), because
        else:
            made_by = self.of_record(name)
            if not (self.results / name).exists():
                raise UserError(f"there is no record {name} in {self.results.name} yet")
            path = self.results / SEALS
            new = {name: {"content": self.content(name), "made_by": made_by, "sealed": because}}
            content = dict(sorted((self._kept() | new).items()))
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _of_result_file(self, path: Path) -> str:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not content.get("made_by"):
            return "was never sealed"
        return difference(content["made_by"], self.of_result(content["chapter"], path.stem))

    def _result_files(self) -> list[Path]:
        return sorted(self.results.glob("[BC][0-9][0-9].json"))

    def _kept(self) -> dict[str, dict]:
        path = self.results / SEALS
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _records(self, found: Slice) -> dict[str, str]:
        """The records whose names stand in the code."""
        read = [name for name in MAKERS if name in found.constants and (self.results / name).exists()]
        return {f"data/results/{name}": self.content(name) for name in read}

    def _content(self, name: str) -> str:
        path, digest = self.results / name, hashlib.sha256()
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.name}\0".encode() + file.read_bytes())
        return digest.hexdigest()[:10]


def difference(then: dict[str, str], now: dict[str, str]) -> str:
    """What changed between two seals, in words; empty if nothing did."""
    changed = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    return f"changed since: {', '.join(changed)}" if changed else ""


def main(arguments: list[str] | None = None) -> int:
    """The command of the module's first lines."""
    parser = argparse.ArgumentParser(
        prog="python -m l2e_min.lab.ledger.seal", description="which recorded numbers are older than their code"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="seal these: a claim (C10) or a record; 'all' for all")
    parser.add_argument("--because", metavar="TEXT", default="", help="why today's code would give the same numbers")
    chosen = parser.parse_args(arguments)
    seals = Seals()
    try:
        stale = seals.problems()
        for name in stale if chosen.names == ["all"] else chosen.names:
            seals.seal(name, chosen.because)
            print(f"{name}: sealed")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if chosen.names:
        return 0
    for name, text in stale.items():
        print(f"{name}: {text}")
    print("every recorded number is sealed" if not stale else "measure them again, or seal them with a reason")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
