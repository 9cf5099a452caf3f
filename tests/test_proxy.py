"""The proxies of the chaos test do what their modes say."""

import socket
import threading

import pytest
from harness.proxy import Proxies
from harness.server import HOST, free_port, wait_until

pytestmark = pytest.mark.ours("no server is under test")


@pytest.fixture
def echo():
    """A server that repeats what it hears, and remembers it."""
    listener = socket.create_server((HOST, 0))
    heard = bytearray()

    def serve(connection):
        with connection:
            try:
                while piece := connection.recv(1000):
                    heard.extend(piece)
                    connection.sendall(piece)
            except OSError:
                pass

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"{HOST}:{listener.getsockname()[1]}", heard
    listener.close()


@pytest.fixture
def way(echo):
    """(set the mode, connect, what the server heard)"""
    proxies = Proxies()
    address, heard = echo
    host, port = proxies.route("way", address, free_port()).split(":")

    def connect():
        connection = socket.create_connection((host, int(port)), timeout=0.3)
        return connection

    yield lambda mode: proxies.set("way", mode), connect, heard
    proxies.stop()


def says_nothing(connection):
    with pytest.raises(TimeoutError):
        connection.recv(10)


def test_open_and_frozen_both_ways(way):
    set_mode, connect, heard = way
    with connect() as before:
        before.sendall(b"a")
        assert before.recv(10) == b"a"
        set_mode("freeze")
        before.sendall(b"b")
        with connect() as during:
            during.sendall(b"c")
            says_nothing(during)
            says_nothing(before)
            assert heard == b"a"
            set_mode("open")
            assert before.recv(10) == b"b"
            assert during.recv(10) == b"c", "what was held back goes on"


def test_frozen_one_way(way):
    set_mode, connect, heard = way
    with connect() as connection:
        connection.sendall(b"a")
        assert connection.recv(10) == b"a"
        set_mode("freeze-down")
        connection.sendall(b"b")
        says_nothing(connection)
        assert heard == b"ab", "the server heard it"
        set_mode("open")
        assert connection.recv(10) == b"b"
        set_mode("freeze-up")
        connection.sendall(b"c")
        says_nothing(connection)
        assert heard == b"ab"
        set_mode("open")
        assert connection.recv(10) == b"c"


@pytest.mark.parametrize("mode", ["refuse", "reset"])
def test_cut(way, mode):
    set_mode, connect, _ = way
    with connect() as before:
        before.sendall(b"a")
        assert before.recv(10) == b"a"
        set_mode(mode)
        with pytest.raises(ConnectionResetError):
            before.recv(10)
    # A refused connection is not made; a reset one is made, and lasts no longer.
    with pytest.raises(ConnectionRefusedError if mode == "refuse" else ConnectionResetError):
        with connect() as during:
            during.recv(10)
    set_mode("open")
    with connect() as after:
        after.sendall(b"z")
        assert wait_until(lambda: after.recv(10), "an answer") == b"z"
