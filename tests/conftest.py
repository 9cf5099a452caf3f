"""Which server the suites run against, and what they print at the end.

`--server kafscale` (the default) is the binary under test; `--server kafka` runs the same suites against Apache Kafka,
so that what fails against ours only is ours.
"""

import itertools
import time
from functools import partial

import pytest

from harness import results
from harness.s3 import KafscaleOnS3, S3Server
from harness.server import ApacheKafka, Kafscale, Scratch


def pytest_addoption(parser):
    parser.addoption("--server", choices=["kafscale", "kafka"], default="kafscale", help="the server under test")
    parser.addoption("--store", choices=["directory", "s3"], default="directory", help="where KafScale's records are")
    parser.addoption("--storm-seconds", type=int, default=120, help="how long members join and leave in the rebalance storm")
    parser.addoption("--kill-rounds", type=int, default=10, help="rounds of kill -9 in the kill test")
    parser.addoption("--chaos-seconds", type=int, default=120, help="how long the chaos test lets things go wrong")
    parser.addoption("--chaos-groups", action="store_true", help="a consumer group too")
    parser.addoption("--chaos-seed", type=int, help="repeats the faults of a chaos test that printed this seed")


def pytest_configure(config):
    config.addinivalue_line("markers", "ours(reason): holds for KafScale alone; Apache Kafka differs, by design")
    config.addinivalue_line("markers", "client(name): the client that the test is about, in docs/clients.md")
    config.addinivalue_line("markers", "scenario(words): what the test shows, in docs/clients.md; else the words of its name")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--server") == "kafscale":
        return
    for item in items:
        if mark := item.get_closest_marker("ours"):
            item.add_marker(pytest.mark.skip(reason=f"KafScale alone: {mark.args[0]}"))


@pytest.fixture(scope="session")
def kind(request):
    return request.config.getoption("--server")


@pytest.fixture(scope="session")
def scratch(request):
    """A directory for the run. Kept when something failed: the servers' logs are in it."""
    made = Scratch()
    yield made.path
    if request.session.testsfailed:
        print(f"\nservers' logs and data are kept in {made.path}")
    else:
        made.remove()


@pytest.fixture(scope="session")
def s3():
    """An S3 server that suites share, each below a prefix of its own."""
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def new_server(request, kind, scratch):
    """Makes servers, not yet started, each on its own ports and directory; all are stopped at the end."""
    made, numbers = [], itertools.count(1)
    types = {"kafscale": Kafscale, "kafka": ApacheKafka}
    if request.config.getoption("--store") == "s3":
        types["kafscale"] = partial(KafscaleOnS3, s3=request.getfixturevalue("s3"))

    def make(*arguments):
        # No retention: the reference records are older than Kafka's seven days. New groups wait for nobody.
        settings = ["log.retention.ms=-1", "group.initial.rebalance.delay.ms=0"]
        if kind == "kafscale":
            settings = ["--group-initial-rebalance-delay-ms", "0", *arguments]
        server = types[kind](scratch / f"server-{next(numbers)}", *settings)
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def server(new_server):
    """The server that suites share when they only create topics of their own."""
    return new_server().start()


@pytest.fixture
def topic_name(request, numbers):
    """A topic name nobody else uses."""
    words = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"{words[:60]}-{next(numbers)}"


@pytest.fixture(scope="session")
def numbers():
    return itertools.count(1)


# ----------------------------------------------------------------------------- what each client was shown to do


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if item.config.getoption("--server") == "kafscale":
        results.record(item, report)
    return report


# ------------------------------------------------------------------------------------- the time each suite took

suite_seconds, suite_tests = {}, {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    began = time.monotonic()
    result = yield
    suite = item.nodeid.split("::")[0]
    suite_seconds[suite] = suite_seconds.get(suite, 0) + time.monotonic() - began
    suite_tests[suite] = suite_tests.get(suite, 0) + 1
    return result


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("time of each suite")
    for suite, seconds in suite_seconds.items():
        terminalreporter.write_line(f"{seconds:8.1f} s  {suite_tests[suite]:4} tests  {suite}")
