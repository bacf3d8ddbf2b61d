"""The service as a process: uvicorn on an address, and a pool of `worker --any` processes beside it."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import uvicorn

from api.app import create_app
from api.config import ServiceSettings
from api.connections import BoundedProtocol
from api.templating import compile_templates
from tuner.errors import RunError, SpecError
from tuner.launch.standing import WorkerPool
from tuner.storage.storage import Storage

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 5.0
"""How long a request waits for a storage that has gone away."""
MAX_CONNECTIONS = 512
KEEP_ALIVE_S = 75
"""An idle connection is kept so long. Not the usual 5 s: a page asks every 5 s, and would meet the closing door."""
_VANISHED_MS = 60_000
"""A peer that confirms nothing of what was sent for so long is gone."""
_END_S = 10.0
_EVERY = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)


def serve(config: ServiceSettings, *, port: int, devices: Sequence[str], on_message: Callable[[str], None]) -> None:
    """Serve until a signal ends it. `devices`: one for each worker that is kept beside it.

    Raises ConfigError for an open address without a token, RunError for an address that is taken, StorageError.
    """
    config.check()
    if not 0 <= port <= 65535:
        raise SpecError([f"{port} is not a port, 0 to 65535"], where="--port")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(config.host, port))
        store = stack.enter_context(
            Storage.open(config.settings.storage, create=True, retry_timeout_s=SHUTDOWN_TIMEOUT_S)
        )
        server = uvicorn.Server(_options(store, replace(config, workers=len(devices))))
        if devices:
            crew = WorkerPool(config.settings, devices)
            crew.start()
            stack.callback(crew.end)
        if config.host in _EVERY and not config.allowed_hosts:
            on_message("other machines reach it by the names in TUNER_ALLOWED_HOSTS only, and none is named there")
        on_message(f"dashboard at {_address(config.host, listener)} (storage {store.display_url}); Ctrl-C ends it")
        server.run(sockets=[listener])


@contextlib.contextmanager
def served_beside(config: ServiceSettings, *, port: int) -> Iterator[str]:
    """Serve in a thread while something else is done here (`tuner launch --serve`); yields the address.

    Raises as `serve`.
    """
    config.check()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(config.host, port))
        store = stack.enter_context(
            Storage.open(config.settings.storage, create=True, retry_timeout_s=SHUTDOWN_TIMEOUT_S)
        )
        server = uvicorn.Server(_options(store, config))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="service", daemon=True)
        thread.start()
        try:
            yield _address(config.host, listener)
        finally:
            server.should_exit = True
            thread.join(_END_S)


def _options(store: Storage, config: ServiceSettings) -> uvicorn.Config:
    compile_templates()
    return uvicorn.Config(
        create_app(store, config),
        http=BoundedProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
    )


def _address(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # whoever is accepted inherits both
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _VANISHED_MS)
    try:
        listener.bind((host, port))
        listener.listen(MAX_CONNECTIONS)  # who follows the address at once waits for the service, and is not refused
    except OSError as error:
        listener.close()
        raise RunError(
            f"cannot listen on {host}, port {port}: {error.strerror}.",
            hint="Another program may use it; choose another one by --port (0 takes any free one).",
            where="--port",
        ) from error
    return listener
