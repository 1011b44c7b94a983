"""Addresses that servers listen on."""

from __future__ import annotations

import errno
import socket

_REASONS = {
    errno.EADDRINUSE: "is taken by another program; give another port=, or end that program",
    errno.EACCES: "may not be used without further rights; give a port= of 1024 or more",
    errno.EADDRNOTAVAIL: "is not an address of this computer; give another host=",
}


def check_address(host: str, port: int) -> None:
    """Check that a server can listen on an address, before anything is loaded for it.

    Args:
        host: Name or address of this computer.
        port: Port; 0 means any that is free.

    Raises:
        ValueError: It cannot; the message says why and what to do.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"host={host} port={port} is no address of a computer ({getattr(error, 'strerror', None) or error})"
        ) from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as probe:
        if hasattr(socket, "SO_REUSEPORT"):  # elsewhere the option would let two servers share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was closed just now is free
        try:
            probe.bind(address)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, f"cannot be used: {error.strerror or error}")
            raise ValueError(f"{host}:{port} {reason}") from error
