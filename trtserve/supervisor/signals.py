"""Signals as something that a selector can wait for."""

import selectors
import signal
import socket

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""All of them stop the daemon; SIGHUP is what a closed terminal sends."""


class Signals:
    """A context manager, for the main thread: while it is open, signals are only noted.

    The interpreter writes each signal's number into a socket, which wakes the selector; `take`
    gives them. `wake` wakes the selector from any thread.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._receiver, self._sender = socket.socketpair()
        self._old_handlers: dict[int, object] = {}
        self._old_fd = -1

    def __enter__(self) -> "Signals":
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._selector.register(self._receiver, selectors.EVENT_READ, lambda _now: None)
        # A full socket wakes the selector as well as one more byte would.
        self._old_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in HANDLED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
                self._old_handlers[number] = signal.signal(number, _note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._old_fd)
        self._selector.unregister(self._receiver)
        self._receiver.close()
        self._sender.close()

    def wake(self) -> None:
        """Make the selector return. From any thread."""
        try:
            self._sender.send(b"\0")
        except OSError:  # full: it wakes anyway; closed: nobody sleeps
            pass

    def take(self) -> list[int]:
        """The signals that came since the last call, in order."""
        try:
            data = self._receiver.recv(4096)
        except BlockingIOError:
            return []
        return [number for number in data if number in HANDLED]


def _note(*_: object) -> None:
    """Nothing: that the handler is ours makes the interpreter write the number."""
