"""Runs Kafka's own Java tools, and the small Java programs in tests/java, against a server."""

import subprocess
from functools import cache

from .server import JAVA_LIB, ROOT

# A tool lives for a second: less work for the compiler of the virtual machine pays off.
FLAGS = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", f"-Dlog4j2.configurationFile={ROOT}/tests/java/log4j2.properties"]

TOOLS = {
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
    "kafka-consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-cluster": "org.apache.kafka.tools.ClusterTool",
    "kafka-broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
}


def tool(name, *arguments, stdin=None, timeout=300):
    """Runs one of the command-line tools to its end; returns what it did."""
    return java(TOOLS[name], *arguments, stdin=stdin, timeout=timeout)


def good(name, *arguments, stdin=None):
    """Runs a tool that must succeed; returns its standard output."""
    done = tool(name, *arguments, stdin=stdin)
    assert done.returncode == 0, f"{name} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def program(name, *arguments, timeout=300):
    """Runs a class of tests/java/src; fails with its output unless it exits with 0."""
    done = java(name, *arguments, timeout=timeout)
    assert done.returncode == 0, f"{name} {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def java(main, *arguments, stdin=None, timeout=300):
    return subprocess.run(command(main, *arguments), input=stdin, capture_output=True, text=True, timeout=timeout)


def start(main, *arguments, **pipes):
    """Starts a tool or a class of tests/java/src; returns the running process."""
    return subprocess.Popen(command(TOOLS.get(main, main), *arguments), text=True, **pipes)


def command(main, *arguments):
    return ["java", *FLAGS, "-cp", f"{compiled()}:{JAVA_LIB}/*", main, *map(str, arguments)]


@cache
def compiled():
    """Compiles tests/java/src once a run; returns the directory of the classes."""
    out = ROOT / ".tools/java/classes"
    sources = sorted(str(p) for p in (ROOT / "tests/java/src").glob("*.java"))
    subprocess.run(["javac", "-Xlint:all,-processing", "-Werror", "-d", str(out), "-cp", f"{JAVA_LIB}/*", *sources], check=True)
    return out
