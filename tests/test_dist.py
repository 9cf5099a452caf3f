"""The release as `make dist` made it: unpacked, alone in a root file system of its own, it serves real clients."""

import re
import shutil
import subprocess
import tarfile

import pytest
from harness import librdkafka
from harness.dataset import Entry
from harness.server import HOST, ROOT, Kafscale

TARBALLS = sorted((ROOT / "dist").glob("kafscale-*-linux.tar.gz"), key=lambda path: path.stat().st_mtime)

pytestmark = [pytest.mark.ours("its own release"), pytest.mark.skipif(not TARBALLS, reason="there is no release: make dist")]


@pytest.fixture(scope="module")
def release(scratch):
    """The folder of the unpacked release."""
    tarball = TARBALLS[-1]
    checked = subprocess.run(["sha256sum", "--check", f"{tarball.name}.sha256"], cwd=tarball.parent, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    with tarfile.open(tarball) as archive:
        archive.extractall(scratch, filter="tar")
    return scratch / tarball.name.removesuffix(".tar.gz")


class Alone(Kafscale):
    """The binary in a root file system that holds it and an empty folder: no library, no /etc, no /proc, no /tmp."""

    def __init__(self, directory, binary):
        super().__init__(directory)
        self.root = self.directory / "root"
        (self.root / "data").mkdir(parents=True)
        shutil.copy(binary, self.root / "kafscale")
        self.data = self.root / "data"

    def inside(self, *arguments):
        # Without being root: a user namespace is enough for a chroot.
        return ["unshare", "--user", "--map-root-user", "chroot", str(self.root), "/kafscale", *arguments]

    def command(self):
        ports = ["--listen", self.listen, "--http", f"{HOST}:{self.http_port}"]
        return self.inside("broker", "--data-dir", "/data", *ports, *self.arguments)


def test_what_is_in_it(release):
    names = {str(path.relative_to(release)) for path in release.rglob("*")}
    assert {"kafscale", "kafscale.service", "kafscale.env", "Containerfile", "data", "LICENSE", "README.md", "docs/install.md"} <= names
    assert not any((release / "data").iterdir())
    assert (release / "kafscale").stat().st_mode & 0o777 == 0o755


def test_the_binary_needs_no_library(release):
    needed = subprocess.run(["readelf", "--dynamic", "--program-headers", release / "kafscale"], capture_output=True, text=True, check=True)
    assert "NEEDED" not in needed.stdout and "INTERP" not in needed.stdout


def test_it_serves_alone(release, scratch):
    server = Alone(scratch / "alone", release / "kafscale")
    try:
        server.start()
        entries = [Entry(0, i, 1_700_000_000_000 + i, b"k", b"v%d" % i, ()) for i in range(10_000)]
        server.create_topic("t")
        librdkafka.produce(server, "t", entries, compression_type="zstd")
        assert [e.value for e in librdkafka.consume(server, "t", len(entries), partitions=1)] == [e.value for e in entries]
        probe = subprocess.run(server.inside("health", "--http", f"{HOST}:{server.http_port}"), capture_output=True, text=True, timeout=30)
        assert (probe.returncode, probe.stdout) == (0, "ready\n"), probe.stderr
        assert server.terminate() == 0
        # A name is resolved without any help: /etc/hosts is not there, so by what the C library knows itself.
        said = subprocess.run(server.inside("health", "--http", "nobody.invalid:1"), capture_output=True, text=True, timeout=60)
        assert said.returncode == 1 and "nobody.invalid:1" in said.stderr, said.stderr
    finally:
        server.stop()


def test_the_unit_is_one_that_systemd_takes(release, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    unit = (release / "kafscale.service").read_text().replace("/usr/local/bin/kafscale", str(release / "kafscale"))
    # Whoever runs this test: the user of the unit need not exist here.
    unit = re.sub(r"^(User|Group)=.*$", "", unit, flags=re.MULTILINE)
    (tmp_path / "kafscale.service").write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "kafscale.service"], capture_output=True, text=True)
    assert done.returncode == 0 and "kafscale.service" not in done.stderr, done.stderr


def test_its_settings_are_known(release):
    """A variable in the unit, its file of settings or the container that the broker does not know would stop it."""
    known = subprocess.run([release / "kafscale", "broker", "--help"], capture_output=True, text=True, check=True).stdout
    files = [release / name for name in ("kafscale.service", "kafscale.env", "Containerfile")]
    named = {name for file in files for name in re.findall(r"KAFSCALE_[A-Z_]+\b(?=[=])", file.read_text())}
    assert named and all(name in known for name in named), named
