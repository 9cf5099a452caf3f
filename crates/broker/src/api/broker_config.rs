//! The settings of a broker under Kafka's names, as far as tools ask for them and this broker has what they say. They
//! are told and cannot be changed: what can be set is set when the broker is started, under our own names. The defaults
//! of topics come from [`topic_config`].

use kafscale_log::limits::MAX_FETCH_BYTES;

use super::Context;
use super::topic_config::{Kind, SETTINGS};
use crate::limits::{MAX_FETCH_SESSIONS, MAX_FRAME_BYTES};

/// A setting as it holds for this broker.
pub(super) struct Described {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) kind: Kind,
}

/// All settings, by name.
pub(super) fn describe(context: &Context) -> Vec<Described> {
    let row = |name, kind, value: &dyn ToString| Described { name, value: value.to_string(), kind };
    let mut rows = vec![
        row("auto.create.topics.enable", Kind::Boolean, &context.settings.auto_create_topics),
        row("broker.id", Kind::Int, &context.broker_id),
        row("default.replication.factor", Kind::Int, &1),
        row("delete.topic.enable", Kind::Boolean, &true),
        row("fetch.max.bytes", Kind::Int, &MAX_FETCH_BYTES),
        row("max.incremental.fetch.session.cache.slots", Kind::Int, &MAX_FETCH_SESSIONS),
        row("node.id", Kind::Int, &context.broker_id),
        row("num.partitions", Kind::Int, &context.settings.default_partitions),
        row("socket.request.max.bytes", Kind::Int, &MAX_FRAME_BYTES),
    ];
    rows.extend(SETTINGS.iter().map(|setting| row(setting.broker_name, setting.kind, &setting.default)));
    rows.sort_by_key(|row| row.name);
    rows
}
