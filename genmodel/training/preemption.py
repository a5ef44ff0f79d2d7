"""SIGTERM, which a scheduler sends before it takes the machine away: the loop sees it, and ends between two steps."""

import signal
import threading
from types import FrameType, TracebackType

EXIT = 128 + signal.SIGTERM  # 143, as in a shell


class Preemption:
    """with Preemption() as preemption: `preemption.asked` becomes true at the first SIGTERM; later ones do nothing.

    Signals reach only the main thread: in any other this does nothing.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Preemption":
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_main:
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
