"""Loopback ports: choosing free ones, and telling who holds one.

What belongs here: questions about TCP ports of this machine. What does not: which part uses which.
Ports are drawn below the range that the system hands to outgoing connections, so that a remembered
port is not lost to some client between two starts (Linux hands out 32768 and above).
"""

import errno
import random
import socket
from collections.abc import Collection

import psutil

from carbon_pipelines.embedded.names import LOOPBACK

_LOWEST = 10_000
_HIGHEST = 32_000


def choose_port(
    taken: Collection[int], *, companion: int | None = None, draw: random.Random | None = None
) -> int:
    """Draw a port that is free now, outside `taken`.

    Args:
        taken: ports already given away.
        companion: when given, ``port + companion`` must be free and outside `taken` as well.
        draw: source of randomness; None: the system's.
    """
    source = draw or random.SystemRandom()
    while True:
        port = source.randint(_LOWEST, _HIGHEST - (companion or 0))
        clash = port in taken or (companion is not None and port + companion in taken)
        if not clash and is_group_free(port, companion=companion):
            return port


def is_group_free(port: int, *, companion: int | None) -> bool:
    """Whether a port, and the one `companion` above it if any, are free now."""
    return is_free(port) and (companion is None or is_free(port + companion))


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as refusal:
            if refusal.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def describe_occupant(port: int) -> str:
    """Name the process that holds a port, for a person: its pid and command."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            return _describe_process(connection.pid)
    return "a process of another user"


def listens(process: psutil.Process, port: int) -> bool:
    """Whether this very process has a listening socket on the port."""
    return any(
        connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port == port
        for connection in process.net_connections(kind="tcp")
    )


def _describe_process(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return f"process {pid}"
    return f"process {pid} ({command[:120]})"
