//! `docs/protocol.md` is made from the code's own table of API keys. When this test fails, the page that it should be
//! is in the message; `KAFSCALE_WRITE_DOCS=1 cargo test -p kafscale-broker protocol_page` writes it.

use std::fmt::Write as _;
use std::path::Path;

use kafscale_broker::api::APIS;
use kafscale_broker::api::topic_config::SETTINGS;

const INTRODUCTION: &str = "\
# Protocol

What clients may ask for. This page is made from the code's own tables and checked in the tests; what each key does, version by
version, is in the header of its file under `crates/broker/src/api`.

Kafka's own clients, librdkafka from 2.0 and everything built on it work as they come; a client that opens with an ApiVersions version
above ours gets the list in version 0 and goes on. An API key or a version that is not in this table closes the connection, as with
Kafka.

";

const BROKERS: &str = "
## Brokers, leaders and zones

Clients that know one broker find all: Metadata and DescribeCluster name all that live, each at the address that it advertises for the
listener that the client came in by. Any of them takes any request, but those of a consumer group, which its coordinator takes
(FindCoordinator names it).

The leader of a partition is advice: all clients are given the same, so that they share a cache, and another one only when brokers come
or go. A client that names its zone is given brokers of it, if there are any: with `zone=NAME` in its `client.id`, at the beginning or
behind a comma, up to the end or the next comma (`client.id=zone=eu-1a,orders`), or by coming in through a listener that is named as the
zone is. A consumer with `client.rack` that fetches elsewhere is sent to a broker of its rack (KIP-392), once in five minutes on a
connection. The replicas that are shown are the brokers that lead the partition in each zone. The leader epoch is always 0: no log ever
diverges, and it can never go back.
";

fn render() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("## API keys\n\n| key | API | advertised | served |\n|---|---|---|---|\n");
    for api in APIS {
        let range = |r: &std::ops::RangeInclusive<i16>| format!("{}–{}", r.start(), r.end());
        writeln!(page, "| {} | {} | {} | {} |", api.key, api.name, range(&api.advertised), range(&api.served)).unwrap();
    }
    page.push_str("\nProduce 0 to 2 are advertised because old librdkafka turns features off without them, and answered UNSUPPORTED_VERSION.\n");
    page.push_str(BROKERS);
    page.push_str("\n## Topic settings\n\nAny other setting is refused by name.\n\n| setting | default | allowed |\n|---|---|---|\n");
    for setting in SETTINGS {
        writeln!(page, "| `{}` | {} | {} |", setting.name, setting.default, setting.allowed).unwrap();
    }
    page
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's switch, not a setting of the product")]
fn the_page_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let expected = render();
    if std::env::var("KAFSCALE_WRITE_DOCS").is_ok() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), expected);
}
