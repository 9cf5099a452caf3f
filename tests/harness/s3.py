"""Our S3 server (crates/s3-server) as a process, and a broker whose records are in a bucket of it."""

import json
import os
import subprocess
import urllib.request
from functools import cache

from .server import ROOT, Kafscale

ACCESS_KEY, SECRET_KEY, BUCKET = "kafscale", "kafscale-secret", "records"


@cache
def binary():
    if given := os.environ.get("KAFSCALE_S3_BIN"):
        return given
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--package", "kafscale-s3-server"], check=True, cwd=ROOT)
    return ROOT / "target/debug/kafscale-s3"


class S3Server:
    """Started at once; stopped by `stop`, and by the end of the process that started it."""

    def __init__(self, listen="127.0.0.1:0"):
        command = [str(binary()), "--listen", listen, "--bucket", BUCKET]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        _, self.address, _, self.control = self.process.stdout.readline().split()

    def stop(self):
        self.process.kill()
        self.process.communicate()

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.control}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def faults(self, **faults):
        """Sets what goes wrong from now on; nothing, without arguments."""
        self.ask("PUT", "/faults", faults)

    def stats(self):
        return self.ask("GET", "/stats")


def flags(server, prefix, journal, **changes):
    """What a broker is told of a bucket and a journal's directory."""
    settings = {
        "store": f"s3://{BUCKET}/{prefix}",
        "journal": f"file://{journal}",
        "s3-endpoint": f"http://{server.address}",
        "s3-access-key": ACCESS_KEY,
        "s3-secret-key": SECRET_KEY,
    }
    return [f"--{name}={value}" for name, value in (settings | changes).items()]


class KafscaleOnS3(Kafscale):
    """A broker with its records in a bucket, below the name of its directory, and its journal in its directory."""

    def __init__(self, directory, *arguments, s3):
        super().__init__(directory, *arguments)
        self.s3 = s3

    def place(self):
        return flags(self.s3, self.directory.name, self.data)
