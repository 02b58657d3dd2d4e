"""Acting as another user of the machine, in a child process; for root only."""

import os
import socket
import warnings
from collections.abc import Callable


def fork() -> int:
    with warnings.catch_warnings():
        # Python warns where other tests have left threads; the child needs none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def as_user(user: int, act: Callable[[], None]) -> bool:
    """Whether something works in a child process of another user."""
    child = fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            act()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
