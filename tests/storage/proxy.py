"""A wire between a client and PostgreSQL that can be cut: at once, or just before the answer to a COMMIT arrives."""

import contextlib
import socket
import threading

_COMMIT = b"COMMIT\x00"


class Proxy:
    """Forwards bytes. `lose_commits = 1` swallows the answer to the next COMMIT and cuts that connection.

    `block` is a network that is away: connections are cut and new ones refused, or silently nothing arrives any more.
    """

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.lose_commits = 0
        self.lost = 0
        self._stranded: set[tuple[socket.socket, socket.socket]] = set()
        self._refuses = False
        self._open = threading.Event()
        self._open.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut every connection; new ones are accepted."""
        for pair in self._pairs:
            self._close(pair)
        self._pairs.clear()

    def strand(self) -> None:
        """Forget every connection without a word: what is sent over it is lost, neither end is told."""
        self._stranded.update(self._pairs)

    def block(self, *, silently: bool = False) -> None:
        """Let nothing through until `unblock`."""
        if silently:
            self._open.clear()
        else:
            self._refuses = True
            self.cut()

    def unblock(self) -> None:
        """Let everything through again, what was held up as well."""
        self._refuses = False
        self._open.set()

    def close(self) -> None:
        """Accept nothing any more."""
        self._open.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread; closing alone would not
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.wait()
                if self._refuses:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.server_port))
                pair = (client, server)
                self._pairs.append(pair)
                muted = threading.Event()
                threading.Thread(target=self._to_server, args=(pair, muted), daemon=True).start()
                threading.Thread(target=self._to_client, args=(pair, muted), daemon=True).start()

    def _to_server(self, pair: tuple[socket.socket, socket.socket], muted: threading.Event) -> None:
        client, server = pair
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if _COMMIT in data and self.lose_commits:
                    self.lose_commits -= 1
                    muted.set()
                self._open.wait()
                if pair not in self._stranded:
                    server.sendall(data)
        self._close(pair)

    def _to_client(self, pair: tuple[socket.socket, socket.socket], muted: threading.Event) -> None:
        client, server = pair
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if muted.is_set():
                    self.lost += 1
                    break
                self._open.wait()
                if pair not in self._stranded:
                    client.sendall(data)
        self._close(pair)

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
