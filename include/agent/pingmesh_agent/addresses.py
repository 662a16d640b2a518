"""IPv4 and IPv6 addresses."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM, inet_pton, socket

WILDCARD = {int(AF_INET): "0.0.0.0", int(AF_INET6): "::"}  # noqa: S104


def family_of(address: str) -> int:
    """Return AF_INET or AF_INET6. Names are not resolved, since that would block the loop.

    Raises:
        ValueError: `address` is not an IP address.
    """
    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, address)
            return int(family)
        except (OSError, ValueError, TypeError):
            continue
    raise ValueError(f"address {address!r} is not an IP address")


def is_local(family: int, address: str) -> bool:
    """Whether this host has `address`."""
    sock = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        sock.bind((address, 0))
        return True
    except OSError:
        return False
    finally:
        sock.close()
