import os
import random
import socket

from carbon_pipelines.embedded.ports import choose_port, describe_occupant, is_free


def listener(port: int = 0) -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_a_port_is_drawn_around_those_that_are_given_away_or_in_use() -> None:
    first = choose_port((), draw=random.Random(1))
    with listener(first):
        second = choose_port((), draw=random.Random(1))
    third = choose_port({second}, draw=random.Random(1))
    assert first != second
    assert second != third


def test_a_port_is_not_drawn_when_its_companion_is_in_use() -> None:
    first = choose_port((), companion=10_000, draw=random.Random(2))
    with listener(first + 10_000):
        assert choose_port((), companion=10_000, draw=random.Random(2)) != first


def test_the_occupant_of_a_port_is_named_with_pid_and_command() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        described = describe_occupant(port)
    assert described.startswith(f"process {os.getpid()} (")
    assert "pytest" in described
    assert is_free(port)
