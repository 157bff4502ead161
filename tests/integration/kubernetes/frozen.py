"""A way to a server on which connections can be made to fall silent without an end, as networks do."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Way:
    def __init__(self, target: int) -> None:
        self._target, self._frozen, self._sockets = target, threading.Event(), list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Let nothing more through on the connections that are open; new ones work."""
        self._frozen.set()
        self._frozen = threading.Event()

    def close(self) -> None:
        for one in [self._listener, *self._sockets]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [here, there]
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self._carry, args=(*pair, self._frozen), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket, frozen: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if frozen.is_set():
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def way(target: int) -> Iterator[Way]:
    made = Way(target)
    try:
        yield made
    finally:
        made.close()
