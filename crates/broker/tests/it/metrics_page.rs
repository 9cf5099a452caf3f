//! `docs/metrics.md` is made from the code's own table of metrics. When this test fails,
//! `KAFSCALE_WRITE_DOCS=1 cargo test -p kafscale-broker metrics_page` writes it.

use std::fmt::Write as _;
use std::path::Path;

use kafscale_broker::metrics::TABLE;

const INTRODUCTION: &str = "\
# Metrics

`GET /metrics` on the HTTP listener (127.0.0.1:9093 unless `--http` says otherwise), in the OpenMetrics text format, which Prometheus
reads. This page is made from the code's own table and checked in the tests.

Counters and histograms begin at 0 with each start of the broker. A family with labels has a line for each label that has occurred.
Labels take few values: names of APIs and of errors are Kafka's, and a key or a code that Kafka does not have is `other`. Where labels
are names that clients choose, the number of lines is bounded, and a metric says how many were left out. What is said of groups is of
those that the broker coordinates: the sum over all brokers has each group once.

";

const LOGS: &str = "
## Logs

Log lines go to standard error. `--log-level` takes a level, and others for single modules, as in
`info,kafscale_broker::ledger=debug`. It can be changed while the broker runs, until its next start:

    curl http://127.0.0.1:9093/log-level
    curl -X PUT -d debug http://127.0.0.1:9093/log-level

Anyone who reaches the HTTP listener can read it. Changing it is for the broker's own machine alone (in a container: from inside, or
through a port that is forwarded to its loopback address), since whoever may write the log full may fill its disk. The HTTP listener has
no other write access, and no authentication: keep it on the loopback address, or where only those who watch the broker reach it.

A request that takes longer than `--slow-request-ms` (1000) is named in a warning: API, peer, listener, client id, milliseconds, number of
topics. What a fetch may wait for records does not count, nor does what a join or a sync waits for the other members of its group.
Lines that clients can cause are bounded: ten of a kind in ten seconds, and the next one says in `left_out` how many were not written.
";

fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for row in TABLE {
        let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{}` | {} | {} | {} |", row.name, row.kind, labels.join(", "), row.help).unwrap();
    }
    page.push_str(LOGS);
    page
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's switch, not a setting of the product")]
fn the_page_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let expected = render();
    if std::env::var("KAFSCALE_WRITE_DOCS").is_ok() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let other = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    assert!(found == expected, "docs/metrics.md is not what the code says; the first line that differs: {other:?}");
}
