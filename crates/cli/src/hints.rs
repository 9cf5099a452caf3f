//! What a person who has just started a broker can type next, with its real addresses.

use std::io::Write;
use std::net::SocketAddr;

use kafscale_broker::config::HostPort;

/// What the texts need.
pub(crate) struct Ready {
    /// The listeners by name, and what their clients are told; the first is the one in the examples.
    pub(crate) bootstrap: Vec<(String, HostPort)>,
    pub(crate) http: SocketAddr,
    /// Where the data is.
    pub(crate) data: String,
}

/// Prints to standard output; logs go to standard error.
pub(crate) fn print(ready: &Ready) {
    let mut out = std::io::stdout().lock();
    // A closed standard output is no reason to stop a broker.
    let _ = out.write_all(text(ready).as_bytes()).and_then(|()| out.flush());
}

fn text(ready: &Ready) -> String {
    let Ready { bootstrap: listeners, http, data } = ready;
    let bootstrap = listeners.first().map(|(_, address)| address.to_string()).unwrap_or_default();
    let others: String = listeners.iter().skip(1).map(|(name, address)| format!(", {address} ({name})")).collect();
    format!(
        r#"
KafScale is ready: Kafka on {bootstrap}{others}, HTTP on {http}, data in {data}. Ctrl-C stops it. In another terminal:

  kcat     echo hello | kcat -b {bootstrap} -t demo -P
           kcat -b {bootstrap} -t demo -C -o beginning -e

  Java     kafka-console-producer.sh --bootstrap-server {bootstrap} --topic demo
           kafka-console-consumer.sh --bootstrap-server {bootstrap} --topic demo --group demo --from-beginning

  Python   from confluent_kafka import Producer, Consumer
           p = Producer({{"bootstrap.servers": "{bootstrap}"}}); p.produce("demo", b"hello"); p.flush()
           c = Consumer({{"bootstrap.servers": "{bootstrap}", "group.id": "demo-2", "auto.offset.reset": "earliest"}})
           c.subscribe(["demo"]); print(c.poll(10).value())

  Health   curl http://{http}/readyz        Metrics   curl http://{http}/metrics

"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_real_address() {
        let address = |host: &str, port| HostPort { host: host.into(), port };
        let bootstrap = vec![("IN".into(), address("b.example", 4711)), ("OUT".into(), address("::1", 7))];
        let ready = Ready { bootstrap, http: "127.0.0.1:9".parse().unwrap(), data: "d".into() };
        let text = text(&ready);
        assert_eq!(text.matches("b.example:4711").count(), 7);
        assert_eq!(text.matches("127.0.0.1:9").count(), 3);
        assert!(text.contains("Kafka on b.example:4711, [::1]:7 (OUT), HTTP"));
    }
}
