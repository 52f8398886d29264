# SPDX-License-Identifier: Apache-2.0
"""Owns one listening socket and a thread for each of its connections; `stop` ends them all within a second.

Runs in test processes. It knows nothing of what is said on a connection.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable

STOP_S = 1.0


class Acceptor:
    """Accepts on the socket that `listen` makes and calls `serve` with each connection, in a thread of its own.

    `serve` must return soon after a send or receive fails and `stopping` is set; its OSErrors end the connection."""

    def __init__(self, name: str, listen: Callable[[], socket.socket], serve: Callable[[socket.socket], None]) -> None:
        self.stopping = threading.Event()
        self._name = name
        self._listen = listen
        self._serve = serve
        self._lock = threading.RLock()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._live: dict[threading.Thread, socket.socket] = {}

    def open(self) -> None:
        """Start to listen; nothing happens when it does already, or has been stopped."""
        with self._lock:
            if self._listener is not None or self.stopping.is_set():
                return
            self._listener = self._listen()
            self._accepting = threading.Thread(
                target=self._accept, args=(self._listener,), name=f"{self._name} accepts"
            )
            self._accepting.start()

    def close(self) -> None:
        """Stop to listen: connects are refused from now on, connections that stand are kept."""
        with self._lock:
            listener, accepting = self._listener, self._accepting
            self._listener = self._accepting = None
        if listener is None or accepting is None:
            return
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() would not
        accepting.join()
        listener.close()

    def stop(self) -> None:
        """Close everything and join every thread. Raises RuntimeError if one is left after a second."""
        self.stopping.set()
        self.close()
        with self._lock:
            threads = list(self._live)
            for connection in self._live.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + STOP_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = [thread.name for thread in threads if thread.is_alive()]
        if left:
            raise RuntimeError(f"still running {STOP_S:g} s after stop: {', '.join(left)}")

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            with self._lock:
                if self.stopping.is_set():
                    connection.close()
                    return
                self._live = {thread: other for thread, other in self._live.items() if thread.is_alive()}
                thread = threading.Thread(target=self._run, args=(connection,), name=f"{self._name} serves")
                self._live[thread] = connection
                thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        except OSError:
            pass  # the client is gone, or `stop` has cut the connection
        finally:
            with self._lock:  # so that `stop` never shuts down a descriptor that is another's by now
                connection.close()
