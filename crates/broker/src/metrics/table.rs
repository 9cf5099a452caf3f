//! Every metric there is: its name, kind, labels and meaning. `docs/metrics.md` is made from it, and a metric that is
//! not in it cannot be registered.

/// One metric, for documentation.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// Its name as it is scraped, without the suffixes of a histogram.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The labels it has.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description { name, kind, labels, help }
}

/// Every metric there is, in the order in which they are registered.
#[rustfmt::skip]
pub const TABLE: &[Description] = &[
    row("kafscale_connections_open", "gauge", &["listener"], "Kafka connections that are open"),
    row("kafscale_connections_accepted_total", "counter", &["listener"], "Kafka connections accepted"),
    row("kafscale_connections_refused_total", "counter", &["listener"], "Kafka connections closed at once because too many were open"),
    row("kafscale_accept_errors_total", "counter", &["listener"], "Attempts to accept a connection that failed"),
    row("kafscale_connections_closed_total", "counter", &["cause"], "Kafka connections ended, by cause"),
    row("kafscale_requests_total", "counter", &["api", "outcome"], "Requests that came to an end: answered, failed (an error code is in the answer), unacknowledged (acks=0), closed (the connection was, instead of an answer), panicked"),
    row("kafscale_answer_errors_total", "counter", &["api", "error"], "Error codes in answers, by Kafka's names; an answer about many partitions can have many"),
    row("kafscale_slow_requests_total", "counter", &["api"], "Requests that took longer than --slow-request-ms beyond the waiting that they asked for"),
    row("kafscale_request_seconds", "histogram", &["api"], "Time from a request's last byte to the last byte of its answer; a fetch's waiting for records is in it"),
    row("kafscale_request_bytes_total", "counter", &["api"], "Bytes of requests received whole, with length prefixes"),
    row("kafscale_response_bytes_total", "counter", &["api"], "Bytes of answers written, with length prefixes"),
    row("kafscale_fetch_sessions", "gauge", &[], "Fetch sessions that are kept (KIP-227)"),
    row("kafscale_fetch_session_bytes", "gauge", &[], "Memory of fetch sessions"),
    row("kafscale_memory_budget_bytes", "gauge", &["for"], "The budget for requests and for answers under way"),
    row("kafscale_memory_used_bytes", "gauge", &["for"], "The part of the budget that is reserved"),
    row("kafscale_batches_total", "counter", &[], "Record batches in sealed bundles"),
    row("kafscale_batch_bytes_total", "counter", &[], "Bytes of record batches in sealed bundles, as producers compressed them"),
    row("kafscale_batches_dropped_total", "counter", &[], "Record batches that were answered with an error before they reached the journal"),
    row("kafscale_flushes_total", "counter", &["cause"], "Bundles sealed: full, budget (--flush-per-second allowed it), closing (the broker was ending)"),
    row("kafscale_uploads_total", "counter", &["outcome"], "Bundles whose upload ended: stored, retried (once more under a new name), given_up"),
    row("kafscale_put_seconds", "histogram", &[], "Time to store one object durably"),
    row("kafscale_put_bytes_total", "counter", &[], "Bytes of objects stored"),
    row("kafscale_get_seconds", "histogram", &[], "Time to read one object, or a part of one"),
    row("kafscale_get_bytes_total", "counter", &[], "Bytes of objects read"),
    row("kafscale_store_errors_total", "counter", &["operation"], "Operations of the object store that failed: put, get, delete"),
    row("kafscale_cache_hits_total", "counter", &[], "Reads of objects answered from the cache"),
    row("kafscale_cache_misses_total", "counter", &[], "Reads of objects that went to the store"),
    row("kafscale_cache_bytes", "gauge", &["part"], "Memory of cached objects: written (by this broker, lately), fetched"),
    row("kafscale_damaged_objects_total", "counter", &[], "Objects that came damaged from the store"),
    row("kafscale_commit_seconds", "histogram", &[], "Time from asking for a bundle's commit to the verdicts of this broker's fold: append, fsync, fold"),
    row("kafscale_append_seconds", "histogram", &[], "Time to append one journal entry durably"),
    row("kafscale_appended_entries_total", "counter", &[], "Journal entries that this broker appended"),
    row("kafscale_appended_bytes_total", "counter", &[], "Bytes of journal entries that this broker appended"),
    row("kafscale_journal_files", "gauge", &[], "Files of the journal"),
    row("kafscale_journal_entries", "gauge", &[], "Entries that the journal holds: what was not truncated"),
    row("kafscale_journal_bytes", "gauge", &[], "Size of the journal's files"),
    row("kafscale_fold_seconds", "histogram", &[], "Time to apply one journal entry to the state"),
    row("kafscale_folded_entries_total", "counter", &[], "Journal entries applied to the state since the start"),
    row("kafscale_folded_bytes_total", "counter", &[], "Bytes of journal entries applied to the state since the start"),
    row("kafscale_journal_ordinal", "gauge", &[], "The ordinal of the last journal entry that was applied"),
    row("kafscale_fold_time_seconds", "gauge", &[], "The time written in the last journal entry that was applied, seconds since 1970"),
    row("kafscale_snapshots_total", "counter", &[], "Snapshots of the state written and published"),
    row("kafscale_snapshot_failures_total", "counter", &[], "Attempts to write and publish a snapshot that failed"),
    row("kafscale_snapshot_seconds", "histogram", &[], "Time to write, confirm and publish a snapshot"),
    row("kafscale_snapshot_bytes", "gauge", &[], "Size of the newest snapshot that this life of the broker wrote; 0 before the first"),
    row("kafscale_snapshot_time_seconds", "gauge", &[], "When this life of the broker published its newest snapshot, seconds since 1970; 0 before the first"),
    row("kafscale_snapshot_ordinal", "gauge", &[], "The journal entry after which the newest snapshot was taken; entries after it are read again by a start"),
    row("kafscale_topics", "gauge", &[], "Topics"),
    row("kafscale_partitions", "gauge", &[], "Partitions of all topics"),
    row("kafscale_producers", "gauge", &[], "Idempotent producers that are remembered"),
    row("kafscale_groups", "gauge", &["state"], "Consumer groups that this broker coordinates, by Kafka's names of states"),
    row("kafscale_group_members", "gauge", &[], "Members of all consumer groups"),
    row("kafscale_group_generations_total", "counter", &[], "Generations that began: rebalances that were completed"),
    row("kafscale_offset_commits_total", "counter", &["outcome"], "Offset commits of consumer groups: stored, refused (the client has to do something about it), failed (not written, or not known to be)"),
    row("kafscale_group_lag", "gauge", &["group", "topic", "partition"], "Records between a group's committed offset and the end of the partition; at most 10,000 lines, of the groups that come first by name"),
    row("kafscale_group_lag_left_out", "gauge", &[], "Committed offsets whose lag has no line because there are too many"),
];
