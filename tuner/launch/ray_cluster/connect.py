"""The door of a Ray cluster: whether one is there, and whom it lets in."""

import importlib
import socket
import sys
from typing import Any

CHECK_TIMEOUT_S = 3.0
"""Seconds within which the port of a cluster's head is open, if it is there at all."""


def check_cluster_auth(address: str) -> str:
    """Return the address of a cluster that answers to this process's token.

    Raises:
        AuthenticationError: The token is missing or wrong.
        OSError: There is no cluster.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    raylet: Any = importlib.import_module("ray._raylet")  # its stub knows less than it has
    place = str(address if address != "auto" else canonicalize_bootstrap_address_or_die("auto"))
    host, _, port = place.rpartition(":")
    socket.create_connection(
        (host.strip("[]"), int(port)), timeout=CHECK_TIMEOUT_S
    ).close()  # Ray itself would wait for long
    raylet.GcsClient(address=place)
    return place


def is_open(address: str) -> str:
    """Tell whether a cluster lets anybody in, asked without a token: `open`, `closed`, or why that is unknown."""
    from ray.exceptions import AuthenticationError

    try:
        check_cluster_auth(address)
    except AuthenticationError:
        return "closed"
    except Exception as error:
        return reason(error)
    return "open"


def reason(error: BaseException) -> str:
    """Return the sentence of an error of Ray's that says what happened; the rest is for whoever reads its logs."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "Version mismatch" in str(error):
        return " ".join(lines)
    telling = [line for line in lines if line.startswith("The actor is dead") or "Error:" in line]
    return (telling or lines or [type(error).__name__])[-1 if telling else 0]


def main() -> None:
    """Say whether the cluster at an address is open to everybody; to be asked by a process that has no token."""
    sys.stdout.write(is_open(sys.argv[1]) + "\n")


if __name__ == "__main__":
    main()
