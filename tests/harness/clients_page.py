"""Makes docs/clients.md from what the suites kept of each client (`results`).

    python -m harness.clients_page            writes the page
    python -m harness.clients_page --check    says whether the page is what the results make, and fails if it is not

Runs in tests/, after `make test`. Scenarios that several clients share are a table; what one client alone was asked for
is a list. A cell counts the cases that passed (one for each codec, way or assignor); a case that a client cannot do has a
footnote with the reason.
"""

import json
import re
import sys
from collections import defaultdict

from .results import DIRECTORY, VERSIONS
from .server import ROOT

PAGE = ROOT / "docs/clients.md"
SHARED_BY = 3

HEAD = """# Clients

What `make test` drove against the real binary, each client in the version that is named. Groups have short sessions and heartbeats, so that
the tests are quick; for the rest clients have their defaults, unless a test is about a setting. This page is made from the results (`make docs-clients`), and the last suite of `make test` fails when the two differ. The
same suites were developed against Apache Kafka (`--server kafka`), so that what they ask for is what Kafka does.

"""

TOLD = """A number counts the cases that passed: codecs, assignors, ways of committing. – means that there is no such test for the client.
A number in brackets is a reason below.

"""

GOOD_TO_KNOW = """## Good to know

- **Java**, while its only broker is away: `metadata.recovery.strategy=rebootstrap`, its default since 4.0, forgets the topics when no broker
  answers, and the leader of a group then starts a rebalance. A group that is to sit out a restart undisturbed sets it to `none`; the suite does.
- **A client that looks up metadata** of a topic just deleted creates it anew where topics are created by use, as with Kafka;
  `--auto-create-topics false` ends that.
- **Transactions** are refused at once, with a message, by InitProducerId; Java and librdkafka fail and do not loop.
"""


def main():
    page = make(read())
    if "--check" not in sys.argv:
        PAGE.write_text(page)
    elif not PAGE.exists() or comparable(PAGE.read_text()) != comparable(page):
        sys.exit("docs/clients.md is not what the results of this run make: run make docs-clients, and look at what changed")


def comparable(page):
    """Without the version of kcat, which is the distribution's and not pinned."""
    return re.sub(r"^\| kcat \| [^|]+", "", page, flags=re.MULTILINE)


def read():
    """The last outcome of each test."""
    tests = {}
    for path in sorted(DIRECTORY.glob("*.json")):
        for line in path.read_text().splitlines():
            outcome = json.loads(line)
            tests[outcome["test"]] = outcome
    if not tests:
        sys.exit(f"there are no results in {DIRECTORY}: run make test first")
    return list(tests.values())


def make(outcomes):
    cells = defaultdict(list)
    for outcome in outcomes:
        cells[outcome["scenario"], outcome["client"]].append(outcome)
    clients = [client for client in VERSIONS if any(c == client for _, c in cells)]
    scenarios = list(dict.fromkeys(scenario for scenario, _ in cells))
    shared = [s for s in scenarios if sum((s, client) in cells for client in clients) >= SHARED_BY]
    return "".join([HEAD, versions(outcomes, clients), "\n", table(cells, shared, clients), alone(cells, scenarios, shared, clients), GOOD_TO_KNOW])


def versions(outcomes, clients):
    lines = ["| client | version | passed | cannot | failed |", "|---|---|---|---|---|"]
    for client in clients:
        own = [o for o in outcomes if o["client"] == client]
        counts = [sum(o["outcome"] == word for o in own) for word in ("passed", "skipped", "failed")]
        lines.append(f"| {client} | {own[-1]['version']} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines) + "\n"


def table(cells, shared, clients):
    clients = [client for client in clients if any((scenario, client) in cells for scenario in shared)]
    notes = []
    rows = [" | ".join([scenario, *(cell(cells.get((scenario, client)), notes) for client in clients)]) for scenario in shared]
    text = "## What several clients were asked for\n\n" + TOLD
    text += f"| | {' | '.join(clients)} |\n|---|{'---|' * len(clients)}\n" + "".join(f"| {row} |\n" for row in rows) + "\n"
    return text + "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1)) + "\n"


def cell(outcomes, notes):
    if not outcomes:
        return "–"
    words = []
    for outcome, what in (("passed", "{}"), ("failed", "**{} failed**")):
        if count := sum(o["outcome"] == outcome for o in outcomes):
            words.append(what.format(count))
    for reason in dict.fromkeys(o["detail"] for o in outcomes if o["outcome"] == "skipped"):
        if reason not in notes:
            notes.append(reason)
        words.append(f"({notes.index(reason) + 1})")
    return " ".join(words)


def alone(cells, scenarios, shared, clients):
    text = "## What one client was asked for\n\n"
    for client in clients:
        own = [s for s in scenarios if s not in shared and (s, client) in cells]
        if own:
            text += f"- **{client}**: " + "; ".join(f"{s} ({cell(cells[s, client], [])})" for s in own) + "\n"
    return text + "\n"


if __name__ == "__main__":
    main()
