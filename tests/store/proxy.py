"""A wire between a client and PostgreSQL that can be cut: at once, or just before the answer to a COMMIT arrives."""

import contextlib
import socket
import threading

_COMMIT = b"COMMIT\x00"


class Proxy:
    """Forwards bytes. `lose_commits = 1` swallows the answer to the next COMMIT and cuts that connection."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.lose_commits = 0
        self.lost = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut every connection; new ones are accepted."""
        for pair in self._pairs:
            self._close(pair)
        self._pairs.clear()

    def close(self) -> None:
        """Accept nothing any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread; closing alone would not
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
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
                server.sendall(data)
        self._close(pair)

    def _to_client(self, pair: tuple[socket.socket, socket.socket], muted: threading.Event) -> None:
        client, server = pair
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if muted.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        self._close(pair)

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
