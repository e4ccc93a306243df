"""Measures what chapters cost: wall and CPU seconds, peak memory and downloads; the page ``15_costs`` reads the record.

    python book/_tools/costs.py                 # every chapter, profile quick
    python book/_tools/costs.py 15_costs        # one chapter; the others keep their rows
    python book/_tools/costs.py --profile gpu   # on a machine with a CUDA device

One chapter at a time, in a fresh kernel and with empty caches, as for a reader who opens it first. Notebooks and
results go to _build/costs. Stopped, the same command goes on with the chapters that lack; the record is written, and
sealed, at the end. Wall seconds count on a quiet machine only: "others" says how many cores somebody else kept busy.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from execute import BOOK, ROOT, chapters, execute, explain, write_if_changed

NAME = "run_costs.json"
RECORD = ROOT / "data" / "results" / NAME
PROFILES = ("quick", "gpu", "paper")
EVERY = 0.25  # seconds between two looks at the memory; each look takes some milliseconds of another core
PACKAGES = ("torch", "transformers", "numpy")
SEALED = "measured by the code that is sealed"


def measure(source: str, folder: str, profile: str) -> dict:
    """Runs a chapter and returns its row of the record; where a cell failed, the row says so in "problem".

    For a process of its own: what counts is the kernel and all it starts, and these are this process's descendants. CPU
    seconds are the kernel's at its end, as the system counts them. Memory is the sum of what the processes hold in RAM
    (pages that they share count for each), looked at four times a second, and at least the peak of the largest.
    """
    import resource

    import psutil

    path, out = Path(source), Path(folder)
    build = out / "build" / path.stem
    shutil.rmtree(build, ignore_errors=True)
    os.environ |= {
        "L2E_PROFILE": profile,
        "L2E_BUILD": str(build),
        "L2E_RESULTS": str(build / "results"),
        "HF_HOME": str(out / "hub"),
    }
    before, watch = size_of(out / "hub"), Watch()
    psutil.cpu_percent()  # counts from here
    begin, own = time.perf_counter(), cpu_seconds(resource.RUSAGE_SELF)
    problem = text = ""
    with watch:
        try:
            text = execute(path)
        except Exception as error:  # main() reports it, and goes on with the other chapters
            problem = explain(error, path)
    wall = time.perf_counter() - begin
    busy = psutil.cpu_percent() / 100 * psutil.cpu_count() * wall
    cpu = cpu_seconds(resource.RUSAGE_CHILDREN)
    own = cpu_seconds(resource.RUSAGE_SELF) - own
    if problem:
        return {"chapter": path.stem, "problem": problem}
    write_if_changed(out / f"{path.stem}.ipynb", text)
    shutil.rmtree(build, ignore_errors=True)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    row = {
        "profile": profile,
        "chapter": path.stem,
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "memory_mb": round(max(watch.memory, largest) / 1e6),
        "downloaded_mb": round((size_of(out / "hub") - before) / 1e6, 1),
        "others": round(max(0.0, busy - cpu - own) / wall, 2),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
    return row | ({"gpu_memory_mb": watch.gpu_memory} if watch.gpu_memory else {})


class Watch(threading.Thread):
    """Looks at the memory of all descendants of this process until its ``with`` ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.memory, self.gpu_memory, self._end = 0, 0, threading.Event()
        """Peaks: bytes; MB of the whole GPU (0 without one)."""

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        self.join()

    def run(self) -> None:
        import psutil

        this, gpu, rounds = psutil.Process(), shutil.which("nvidia-smi"), 0
        while not self._end.wait(EVERY):
            held = 0
            for process in this.children(recursive=True):
                try:
                    held += process.memory_info().rss
                except psutil.NoSuchProcess:  # it ended just now
                    continue
            self.memory = max(self.memory, held)
            if gpu and rounds % 4 == 0:
                self.gpu_memory = max(self.gpu_memory, *map(int, ask_gpu("memory.used")))
            rounds += 1


def cpu_seconds(who: int) -> float:
    """User and system time of this process or, once they have ended, of its children and theirs."""
    import resource

    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder; links do not count."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def ask_gpu(what: str) -> list[str]:
    """What nvidia-smi says of each GPU: "name", or "memory.used" in MiB. Empty where there is none."""
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def machine() -> str:
    """This machine in words: cores, processor, whether it has AVX-512 (it decides on bfloat16), memory, GPUs."""
    import psutil

    there = Path("/proc/cpuinfo")
    lines = there.read_text(encoding="utf-8").splitlines() if there.is_file() else []
    about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    processor = about.get("model name", platform.machine())
    if "flags" in about:
        processor += ", AVX-512" if "avx512bw" in about["flags"].split() else ", no AVX-512"
    memory = psutil.virtual_memory().total / 1e9
    return ", ".join([f"{psutil.cpu_count()} cores ({processor}), {memory:.0f} GB memory", *ask_gpu("name")])


def alone(source: Path, folder: Path, profile: str) -> dict:
    """``measure`` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, str(source), str(folder), profile).result()
        except BrokenProcessPool:
            problem = f"\n{source.name}: its process was killed; is there enough memory?\n"
            return {"chapter": source.stem, "problem": problem}


def read_rows(path: Path) -> list[dict]:
    """The rows of a record; none where there is no record yet."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []


def write_rows(path: Path, rows: list[dict]) -> None:
    """Writes a record: a row a line, by profile and chapter."""
    rows = sorted(rows, key=lambda row: (PROFILES.index(row["profile"]), row["chapter"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_if_changed(path, '{"rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n")


def main(argv: list[str] | None = None, book: Path = BOOK) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="names of chapters; all of them by default")
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="default: quick")
    parser.add_argument("--record", type=Path, default=RECORD, help=f"where the rows go (data/results/{NAME})")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "costs", help="notebooks, unfinished rows")
    options = parser.parse_args(argv)
    if os.name != "posix":
        parser.error("CPU seconds and peaks are counted on Linux and macOS only")
    if options.profile == "gpu" and not ask_gpu("name"):
        parser.error("profile gpu needs a CUDA device, and nvidia-smi shows none")
    folder = options.out.resolve() / options.profile
    sources, begun = chapters(options.chapters, book), folder / "unfinished.json"
    there = {(row["chapter"], row["source"]): row for row in read_rows(begun)}
    measured, problems = [], []
    for number, source in enumerate(sources, 1):
        digest = hashlib.sha256(source.read_bytes()).hexdigest()[:10]
        row, how = there.get((source.stem, digest)), "measured before the stop"
        if row is None:
            row, how = alone(source, folder, options.profile) | {"source": digest}, "done"
        where = f"[{number}/{len(sources)}] {source.stem}"
        if "problem" in row:
            problems.append(row["problem"])
            print(f"{where}: FAILED", flush=True)
            continue
        measured.append(row)
        write_rows(begun, measured)
        told = f"{row['wall_seconds']:.0f} s, {row['cpu_seconds']:.0f} s of CPU, {row['memory_mb']} MB, "
        print(f"{where}: {how}; {told}{row['downloaded_mb']} MB downloaded, others {row['others']}", flush=True)
    print("".join(problems), file=sys.stderr, end="")
    if measured:
        new, known = {row["chapter"] for row in measured}, {source.stem for source in chapters(book=book)}
        kept = [r for r in read_rows(options.record) if r["profile"] != options.profile or r["chapter"] not in new]
        write_rows(options.record, [row for row in kept if row["chapter"] in known] + measured)
        if options.record.resolve() == RECORD:
            from l2e_min.lab.ledger.seal import Seals

            Seals().seal(NAME, SEALED)
            print('now `make chapters NAMES="15_costs"`: the page shows the new numbers')
    if not problems:
        begun.unlink(missing_ok=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
