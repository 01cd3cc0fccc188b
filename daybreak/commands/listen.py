"""The address that a server takes."""

from __future__ import annotations

import ipaddress
import socket

from daybreak.config import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """A socket at host:port, taken before anything long begins. ConfigError where it is not to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sends small answers at once (TCP_NODELAY) only where it is; else each of
    # them waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        raise ConfigError(f"--host {host} --port {port} cannot be taken: {e.strerror or e}") from None
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
