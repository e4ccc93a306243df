"""Makes the runs of the comparison and keeps their numbers: what chapter 7 reads.

    python -m l2e_min.lab.pretraining_study.record --out runs/pretraining --workers 2

Some four hours on two cores with bf16 instructions, many more without. Stopped with Ctrl-C or killed, the same command
goes on where it was. The numbers are written as runs end: runs.jsonl, answers.jsonl and observations.jsonl in
data/results/pretraining. The models stay in --out.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
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
    """The rows of all runs; makes what ``stages`` lack, ``workers`` at a time. KeyboardInterrupt: told to stop.

    For a program's main thread, where Ctrl-C is heard.
    """
    rows = Record(folder / "runs.jsonl", {"versions": versions()})
    stop = get_context("spawn").Event()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=begin, initargs=(stop,))
    try:
        for stage in stages:
            if stage in STAGES:
                todo = missing(stage, STAGES[stage], rows.rows, rows.rows)
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
                todo = missing(stage, wanted, rows.rows, found.rows)
                for _, row in in_turn(pool, do, todo, out, stage):
                    found.add(row)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return rows.rows


def missing(stage: str, planned: Callable[[list[dict]], list[Run]], rows: list[dict], there: list[dict]) -> list[Run]:
    """The runs that a stage plans by ``rows`` and that are not ``there``, each once."""
    try:
        runs = dict.fromkeys(planned(rows))
    except KeyError as error:
        raise UserError(f"stage {stage} needs an earlier one: {error.args[0]}; make all stages in order") from error
    return [run for run in runs if find(there, run) is None]


def in_turn(
    pool: ProcessPoolExecutor, do: Callable, runs: Sequence[Run], out: Path, stage: str
) -> Iterator[tuple[Run, object]]:
    """``do(run, out)`` of every run, as they end. KeyboardInterrupt where one was told to stop."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a new process begins with
    try:
        waiting = {pool.submit(work, do, run, out): run for run in runs}
    finally:
        signal.signal(signal.SIGINT, before)
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


_stop = None
"""In a worker: the event by which it hears that the recorder was told to stop."""


def begin(stop) -> None:
    """Begins a worker: on one core (several runs at a time are quicker than one run on several), and never alone."""
    import torch

    global _stop
    _stop = stop
    torch.set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Ends this process when the recorder is gone: one that is started anew must not meet it in a run's folder."""
    parent_process().join()
    os._exit(1)


def work(do: Callable, run: Run, out: Path):
    """``do(run, out)``; None where it was told to stop. Between two runs a worker hears nothing of Ctrl-C."""
    from l2e_min.lab.training.stopping import Interrupted

    if _stop is not None and _stop.is_set():  # a pool hands a process its next run before it hears of the stop
        return None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return do(run, out)
    except (Interrupted, KeyboardInterrupt):
        if _stop is not None:
            _stop.set()
        return None
    finally:
        signal.signal(signal.SIGINT, before)


def attempt(run: Run, out: Path) -> dict:
    """The run's row. One whose loss is no longer finite says so in its row, and its loss is infinite (null in JSON)."""
    from l2e_min.lab.pretraining_study.run import make

    try:
        return make(run, out)
    except UserError as error:
        if "the loss is" not in str(error):
            raise
        return {"run": run.key, "validation_loss": float("inf"), "diverged": str(error)}


if __name__ == "__main__":
    sys.exit(main())
