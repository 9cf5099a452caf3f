"""What the suites showed of each client, for docs/clients.md.

A test names the client it is about with `@pytest.mark.client("aiokafka")`, or has it as its parameter `client`; what it
shows is `@pytest.mark.scenario("words")`, or the words of its own name. Each outcome is one line of JSON, appended to
target/client-results/SUITE.json:

    {"client", "version", "scenario", "outcome", "detail", "test"}

`outcome` is passed, failed or skipped; `detail` is the test's other parameters, or why it failed or was skipped. One
scenario may have several tests (one for each codec), and a test that was run again has several lines: its last one
counts. Nothing is written of runs against Apache Kafka.
"""

import json
import subprocess
from functools import cache
from importlib.metadata import version as package_version

from .server import JAVA_LIB, ROOT

DIRECTORY = ROOT / "target/client-results"


def record(item, report):
    """Appends the outcome of a test that is about a client; called with the report of each phase of a test."""
    client = client_of(item)
    # A test that went well ends with its call; one may also fail, or be skipped, before or after.
    if client is None or (report.when != "call" and report.passed):
        return
    line = {
        "client": client,
        "version": version(client),
        "scenario": scenario_of(item),
        "outcome": report.outcome,
        "detail": detail_of(item, report),
        "test": item.nodeid,
    }
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with open(DIRECTORY / f"{item.path.stem.removeprefix('test_')}.json", "a") as out:
        out.write(json.dumps(line, ensure_ascii=False) + "\n")


def client_of(item):
    if mark := item.get_closest_marker("client"):
        return mark.args[0]
    return getattr(item, "callspec", None) and item.callspec.params.get("client")


def scenario_of(item):
    if mark := item.get_closest_marker("scenario"):
        return mark.args[0]
    return item.originalname.removeprefix("test_").replace("_", " ")


def detail_of(item, report):
    if report.failed:
        return str(getattr(report.longrepr, "reprcrash", None) or report.longrepr).splitlines()[0][:300]
    if report.skipped:
        # (file, line, reason), or the text of an expected failure.
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
        return reason.removeprefix("Skipped: ")
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return ""
    words = {name: str(value) for name, value in callspec.params.items() if name != "client"}
    return ", ".join(f"{name} {value}" for name, value in words.items() if len(value) < 60)


# ----------------------------------------------------------------------------------------------------- versions


@cache
def version(client):
    """The version of a client, as it names itself; VERSIONS says how each is asked."""
    return VERSIONS[client]()


def kcat_version():
    words = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
    return "{} (librdkafka {})".format(after(words, "Version "), after(words, "librdkafka "))


def confluent_version():
    import confluent_kafka

    return f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"


def java_version():
    (jar,) = JAVA_LIB.glob("kafka-clients-*.jar")
    return jar.stem.removeprefix("kafka-clients-")


def rdkafka_version():
    lock = (ROOT / "tests/rdkafka/Cargo.lock").read_text()
    return after(lock, 'name = "rdkafka"\nversion = "').rstrip('"')


def node_version(package):
    lock = json.loads((ROOT / "tests/node/package-lock.json").read_text())
    return lock["packages"][f"node_modules/{package}"]["version"]


def after(text, words):
    return text.split(words, 1)[1].split()[0]


VERSIONS = {
    "kcat": kcat_version,
    "confluent-kafka": confluent_version,
    "aiokafka": lambda: package_version("aiokafka"),
    "kafka-python": lambda: package_version("kafka-python"),
    "java": java_version,
    "java tools": java_version,
    "rdkafka": rdkafka_version,
    "kafkajs": lambda: node_version("kafkajs"),
    "platformatic": lambda: node_version("@platformatic/kafka"),
}
