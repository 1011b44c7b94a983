"""What a process does when it is told to end."""

from __future__ import annotations

import os
import signal
import sys
import threading


def exit_on_sigterm() -> None:
    """Let SIGTERM end this process as ``sys.exit`` does: temporary folders are removed, which the default leaves.

    Signals can be handled in the main thread only; in another one this does nothing. Forked children end as ever.
    """
    own = os.getpid()

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        if os.getpid() != own:
            os.kill(os.getpid(), number)
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)
