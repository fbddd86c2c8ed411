"""Ports for processes that start together."""

import socket

import pytest


@pytest.fixture(scope="session")
def reserve_port():
    """Returns a function that returns a port for a coordinator, and lets nobody else choose it.

    The sockets share their ports, as those of the coordinator do, and do not listen.
    """
    sockets = []

    def reserve():
        sockets.append(socket.socket())
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sockets[-1].bind(("localhost", 0))
        return sockets[-1].getsockname()[1]

    yield reserve
    for reserved in sockets:
        reserved.close()
