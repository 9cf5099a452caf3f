"""TCP proxies that a test cuts, freezes and heals: what lies between a broker and its etcd, or its bucket.

`Proxies` is a process of its own (Python's threads would share one core with the test's clients), told what to do by
lines of JSON on its input. A route is one listener with one server behind it, in one of these modes:

    open         bytes go both ways
    refuse       nobody listens; what was connected is reset
    reset        connections are accepted and reset at once; what was connected is reset
    freeze       connections are accepted, and not a byte goes either way
    freeze-up    the server hears nothing; what it says arrives
    freeze-down  the server hears everything; nothing that it says arrives

What a freeze holds back goes on when it ends, as it does after a partition of a network: requests may arrive long after
their client gave them up.
"""

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

MODES = ("open", "refuse", "reset", "freeze", "freeze-up", "freeze-down")
HOST = "127.0.0.1"
# So little, since a frozen pump holds one piece in its hands.
PIECE = 64 << 10


class Proxies:
    """The process, from the test's side."""

    def __init__(self):
        command = [sys.executable, str(Path(__file__).resolve())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()

    def ask(self, **order):
        with self.lock:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        assert "failed" not in answer, answer
        return answer

    def route(self, name, upstream, port):
        """Listens on that port from now on; returns the address."""
        self.ask(do="route", name=name, upstream=upstream, port=port)
        return f"{HOST}:{port}"

    def set(self, name, mode):
        assert mode in MODES, mode
        self.ask(do="set", name=name, mode=mode)

    def stop(self):
        self.process.kill()
        self.process.communicate()


# ------------------------------------------------------------------------------------------ within the process


class Route:
    def __init__(self, upstream, port):
        host, number = upstream.rsplit(":", 1)
        self.upstream, self.port = (host, int(number)), port
        self.mode, self.server, self.writers = "open", None, set()
        # Set: bytes go that way.
        self.up, self.down = asyncio.Event(), asyncio.Event()

    async def listen(self):
        self.server = await asyncio.start_server(self.serve, HOST, self.port, reuse_address=True)

    async def set(self, mode):
        self.mode = mode
        if mode in ("refuse", "reset"):
            for writer in list(self.writers):
                reset(writer)
        if mode == "refuse" and self.server:
            self.server.close()
            self.server = None
        if mode != "refuse" and self.server is None:
            await self.listen()
        for event, stops in ((self.up, ("freeze", "freeze-up")), (self.down, ("freeze", "freeze-down"))):
            event.clear() if mode in stops else event.set()

    async def serve(self, reader, writer):
        if self.mode in ("refuse", "reset"):
            return reset(writer)
        self.writers.add(writer)
        behind = None
        try:
            await self.up.wait()
            server_reader, behind = await asyncio.open_connection(*self.upstream)
            self.writers.add(behind)
            pumps = [self.pump(reader, behind, self.up), self.pump(server_reader, writer, self.down)]
            tasks = [asyncio.ensure_future(pump) for pump in pumps]
            await asyncio.wait(tasks)
        except OSError:
            reset(writer)
        finally:
            for one in (writer, behind):
                if one:
                    self.writers.discard(one)
                    one.close()

    async def pump(self, reader, writer, gate):
        """Until one end closes, which the other end is told; a reset resets both."""
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                await gate.wait()
                writer.write(piece)
                await writer.drain()
            await gate.wait()
            if writer.can_write_eof() and not writer.is_closing():
                writer.write_eof()
            return
        reset(writer)


def reset(writer):
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def obey():
    routes = {}
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        answer = {}
        try:
            if order["do"] == "route":
                route = routes[order["name"]] = Route(order["upstream"], order["port"])
                await route.set("open")
            else:
                await routes[order["name"]].set(order["mode"])
        except OSError as error:
            answer = {"failed": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(obey())
