//! The table holds what is scraped, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use kafscale_wire::ErrorCode;

use super::*;

/// Metrics in which each family has a member: families are written once they have one.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    let _open = metrics.connections.of("PLAINTEXT").count_open();
    metrics.connections.closed("idle");
    metrics.requests.received(0, 1);
    metrics.requests.finished(0, "answered");
    metrics.requests.written(0, Duration::ZERO, 1);
    metrics.requests.error(0, 1);
    metrics.requests.slow(0);
    metrics.memory.budget("requests", 2, 1);
    metrics.write.flushed("full", 1);
    metrics.write.uploaded("stored", 1);
    metrics.store.failed("get");
    metrics.cache.bytes("written", 1);
    metrics.groups.in_state("Stable", 1);
    metrics.groups.commits("stored", 1);
    let mut lag = LagSeries::default();
    lag.add("g", "t", 0, 1);
    metrics.groups.lag(lag);
    metrics
}

#[test]
fn the_table_is_what_is_scraped() {
    let text = touched().render();
    for row in TABLE {
        let family = row.name.strip_suffix("_total").unwrap_or(row.name);
        assert!(text.contains(&format!("# HELP {family} {}.\n", row.help)), "{} is not registered", row.name);
        assert!(text.contains(&format!("# TYPE {family} {}\n", row.kind)), "{} is of another kind", row.name);
        assert_eq!(labels(&text, row), row.labels.iter().map(|l| (*l).to_owned()).collect(), "{}", row.name);
    }
    assert_eq!(text.matches("# HELP ").count(), TABLE.len());
}

/// The labels that the lines of a metric have, but for a histogram's own.
fn labels(text: &str, row: &Description) -> BTreeSet<String> {
    let suffix = if row.kind == "histogram" { "_bucket" } else { "" };
    let line = text.lines().find(|line| {
        let rest = line.strip_prefix(row.name).and_then(|rest| rest.strip_prefix(suffix));
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let line = line.unwrap_or_else(|| panic!("no line of {}", row.name));
    let inside = line.split_once('{').map_or("", |(_, rest)| rest.split('}').next().unwrap_or_default());
    let names = inside.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
    names.filter(|name| name != "le").collect()
}

#[test]
fn a_client_cannot_make_labels() {
    let metrics = Metrics::new();
    for key in i16::MIN..=i16::MAX {
        metrics.requests.finished(key, "answered");
        metrics.requests.error(0, key);
    }
    let text = metrics.render();
    assert_eq!(text.matches("kafscale_requests_total{").count(), kafscale_wire::APIS.len() + 1);
    assert_eq!(text.matches("kafscale_answer_errors_total{").count(), ErrorCode::ALL.len() + 1);
}

#[test]
fn connections_are_open_until_dropped() {
    let metrics = Metrics::new();
    let open = metrics.connections.of("A").count_open();
    assert!(metrics.render().contains("kafscale_connections_open{listener=\"A\"} 1\n"));
    drop(open);
    assert!(metrics.render().contains("kafscale_connections_open{listener=\"A\"} 0\n"));
}

#[test]
fn lag_has_a_bounded_number_of_lines_that_follow_the_groups() {
    let metrics = Metrics::new();
    let set = |groups: &[&str], partitions: u32| {
        let mut lag = LagSeries::default();
        for group in groups {
            (0..partitions).for_each(|partition| lag.add(group, "t", partition, i64::from(partition) - 1));
        }
        metrics.groups.lag(lag);
    };
    set(&["a\n\"b\\"], 2);
    let text = metrics.render();
    let line = r#"kafscale_group_lag{group="a\n\"b\\",topic="t",partition="1"} 0"#;
    assert!(text.contains(line) && text.contains("kafscale_group_lag_left_out 0\n"), "{text}");
    set(&["c", "d", "e"], 4_000);
    let text = metrics.render();
    assert_eq!(text.matches("kafscale_group_lag{").count(), 10_000);
    assert!(text.contains("kafscale_group_lag_left_out 2000\n") && !text.contains(r#"group="a"#));
    set(&[], 0);
    assert!(!metrics.render().contains("kafscale_group_lag{"));
}
