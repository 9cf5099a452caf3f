"""Our S3 server (crates/s3-server) as a process, and a broker whose records are in a bucket of it."""

import hashlib
import hmac
import json
import os
import re
import subprocess
import time
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

    def request(self, method, path, query="", body=b""):
        """One request to the bucket, signed (AWS Signature Version 4)."""
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": self.address, "x-amz-content-sha256": digest, "x-amz-date": at}
        names = ";".join(headers)
        lines = [method, path, query, *(f"{name}:{value}" for name, value in headers.items()), "", names, digest]
        scope = f"{at[:8]}/us-east-1/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()])
        key = f"AWS4{SECRET_KEY}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
        url = f"http://{self.address}{path}" + (f"?{query}" if query else "")
        request = urllib.request.Request(url, data=body or None, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def copy_to(self, other, prefix):
        """Copies what is below a prefix, as a bucket's replication does. Returns how many objects there were."""
        listed = self.request("GET", f"/{BUCKET}", f"list-type=2&prefix={prefix}").decode()
        keys = re.findall("<Key>([^<]*)</Key>", listed)
        for key in keys:
            other.request("PUT", f"/{BUCKET}/{key}", body=self.request("GET", f"/{BUCKET}/{key}"))
        return len(keys)


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
