"""Makes the runs of the comparison and keeps their numbers: what chapter 7 reads.

    python -m l2e_min.lab.pretraining_study.record --out runs/pretraining --workers 2

Three hours or so on two cores. Stopped with Ctrl-C or killed, the same command goes on where it was. The numbers are
written as runs end: runs.jsonl, answers.jsonl and observations.jsonl in data/results/pretraining. The models stay in
--out.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.paths import DATA
from l2e_min.lab.pretraining_study.plan import STAGES, Run, find
from l2e_min.lab.record import Record, read
from l2e_min.lab.training.run_folder import versions

FOLDER = DATA / "results" / "pretraining"

AFTERWARDS = ("answers", "observations")
"""Stages that look at finished models: questions answered, neurons probed; see ``scores``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when all is made, 130 after Ctrl-C, 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m l2e_min.lab.pretraining_study.record",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    everything = [*STAGES, *AFTERWARDS]
    parser.add_argument("--out", type=Path, required=True, help="where the runs are made; goes on with what is there")
    parser.add_argument("--record", type=Path, default=FOLDER, help="folder of the numbers (data/results/pretraining)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one core each (default 1)")
    parser.add_argument("--stages", nargs="+", choices=everything, default=everything, help="default: all")
    given = parser.parse_args(arguments)
    if given.workers < 1:
        parser.error(f"--workers must be at least 1, got {given.workers}")
    try:
        record(given.out, given.record, given.stages, given.workers)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


def record(
    out: Path, folder: Path = FOLDER, stages: Sequence[str] = (*STAGES, *AFTERWARDS), workers: int = 1
) -> list[dict]:
    """The rows of all runs; makes what ``stages`` lack, ``workers`` at a time. KeyboardInterrupt: told to stop."""
    rows = Record(folder / "runs.jsonl", {"versions": versions()})
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread)
    try:
        for stage in stages:
            if stage in STAGES:
                todo = [run for run in dict.fromkeys(STAGES[stage](rows.rows)) if find(rows.rows, run) is None]
                if todo:
                    first_tokenizer(todo[0], out)
                for run, row in in_turn(pool, attempt, todo, out, stage):
                    rows.add(row)
                    print(f"  {run}: {row['validation_loss']:.4f}", flush=True)
            else:
                from l2e_min.lab.pretraining_study import scores

                wanted, do = {
                    "answers": (scores.scored, scores.answer),
                    "observations": (scores.observed, scores.observe),
                }[stage]
                found = Record(folder / f"{stage}.jsonl", {"versions": versions()})
                todo = [run for run in dict.fromkeys(wanted(rows.rows)) if find(found.rows, run) is None]
                for _, row in in_turn(pool, do, todo, out, stage):
                    found.add(row)
    finally:
        pool.shutdown(cancel_futures=True)
    return rows.rows


def in_turn(
    pool: ProcessPoolExecutor, do: Callable, runs: Sequence[Run], out: Path, stage: str
) -> Iterator[tuple[Run, object]]:
    """``do(run, out)`` of every run, as they end. KeyboardInterrupt where one was told to stop."""
    waiting = {pool.submit(do, run, out): run for run in runs}
    for number, future in enumerate(as_completed(waiting), 1):
        if (result := future.result()) is None:
            raise KeyboardInterrupt
        print(f"{stage} {number}/{len(runs)}", flush=True)
        yield waiting[future], result


def results(name: str, folder: Path = FOLDER) -> list[dict]:
    """The rows of "runs", "answers" or "observations"."""
    return read(folder / f"{name}.jsonl")[1]


def first_tokenizer(run: Run, out: Path) -> None:
    """Trains the tokenizer that all runs share, if it is not there yet: before several processes ask for it."""
    if not (out / "tokenizer").is_dir():
        from l2e_min.lab.pretraining_study.run import corpus
        from l2e_min.lab.training.suite import share_tokenizer

        share_tokenizer(out, out / run.folder, run.settings(), corpus())


def one_thread() -> None:
    """A process uses one core: several runs at a time are quicker than one run on several."""
    import torch

    torch.set_num_threads(1)


_told_to_stop = False


def attempt(run: Run, out: Path) -> dict | None:
    """The run's row, None where it was told to stop. A run whose loss is no longer finite says so in its row."""
    global _told_to_stop  # a pool hands a process its next run before it hears of the stop
    if _told_to_stop:
        return None
    from l2e_min.lab.pretraining_study.run import make
    from l2e_min.lab.training.stopping import Interrupted

    try:
        return make(run, out)
    except Interrupted:
        _told_to_stop = True
        return None
    except UserError as error:
        if "the loss is" not in str(error):
            raise
        return {"run": run.key, "validation_loss": float("inf"), "diverged": str(error)}


if __name__ == "__main__":
    sys.exit(main())
