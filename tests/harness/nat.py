"""A TCP proxy that plays what lies between a client and a broker: a container's mapped port, a router with NAT."""

import contextlib
import socket
import threading

from .server import HOST


class MappedPort:
    """A port of this machine that leads to `target`, as `docker run -p` makes one. Counts who came through."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server((HOST, 0))
        self.address = self.listener.getsockname()
        self.bootstrap = f"{HOST}:{self.address[1]}"
        self.count, self.open = 0, []
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                broker = socket.create_connection(self.target, timeout=10)
            except OSError:
                return
            broker.settimeout(None)
            self.count += 1
            self.open += [client, broker]
            for here, there in ((client, broker), (broker, client)):
                threading.Thread(target=pump, args=(here, there), daemon=True).start()


def pump(here, there):
    """Carries bytes one way until that way ends."""
    with contextlib.suppress(OSError):
        while data := here.recv(1 << 16):
            there.sendall(data)
        there.shutdown(socket.SHUT_WR)
