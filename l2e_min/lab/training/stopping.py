"""Stopping a long computation politely: Ctrl-C asks, the computation answers at its next safe place."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupted(Exception):
    """A run was asked to stop and has saved a checkpoint; ``status`` is the exit status (130 for Ctrl-C)."""

    def __init__(self, step: int, status: int):
        super().__init__(f"stopped after step {step}")
        self.step, self.status = step, status


class StopRequest:
    """``status`` is 0 until somebody asks, then the exit status to end with."""

    status = 0


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within the block, the first Ctrl-C (or SIGTERM) only asks; a second one interrupts at once as usual.

    Does nothing outside the main thread, where Python allows no signal handlers.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: object) -> None:
        request.status = 128 + number
        for s, handler in before.items():
            signal.signal(s, handler)

    for s in before:
        signal.signal(s, ask)
    try:
        yield request
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
