//! Fetch (key 1), versions 4–18.
//!
//! Whole batches from the one that contains the offset on, up to the limits of the partition and of the request; the
//! first batch is always whole, once a request (KIP-74). A fetch that finds less than `min_bytes` sleeps until the
//! fold wakes it or `max_wait_ms` is over. Records are slices of what is cached, with base offset and leader epoch
//! patched in front: never copied. read_committed (v4) works: there are no transactions, so the last stable offset is
//! the high watermark and no transaction is aborted.
//!
//! v7's fetch sessions (KIP-227, [`crate::fetch_sessions`]): with epoch 0 a request opens a session and is answered in
//! full; with the epochs after it it lists what is wanted otherwise or (in the forgotten topics) no longer, and the
//! answer has what has records, an error, or other bounds than were told. With epoch −1 there is no session. Both 0 and
//! −1 close the session that is named. A session that is empty, or finds no room, is answered with the id 0: the client
//! goes on without. An unknown session is FETCH_SESSION_ID_NOT_FOUND, another epoch than the next one
//! INVALID_FETCH_SESSION_EPOCH, a session that began by names continued by ids, or the other way round,
//! FETCH_SESSION_TOPIC_ID_ERROR. A partition that stands in a request twice is answered once, as Kafka does.
//!
//! v9's and v12's leader epochs are ignored: the epoch is always 0 and no log ever diverges. v13 names topics by id
//! (KIP-516). Replica ids mean nothing: a fetch is a consumer's.
//!
//! v11's rack (KIP-392): a consumer whose rack is another than ours, and has a broker, is told that broker for each
//! partition, without records, since librdkafka drops those. It is told once a connection in five minutes: if it comes
//! back it has its reasons, and is served.

use std::time::Duration;

use kafscale_log::Ledger;
use kafscale_log::read::{FetchAnswer, FetchError, FetchLimits, PartitionData as Found};
use kafscale_metadata::{Leaders, State, TopicId};
use kafscale_wire::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use kafscale_wire::{ErrorCode, Records, Text, Uuid};

use super::{Call, Context, Supported, answer_holding, brokers, errors};
use crate::connection::Reply;
use crate::fetch_sessions::{Asked, Key, Session, Turn, Want};

pub(super) const API: Supported = Supported { key: 1, name: "Fetch", advertised: 4..=18, served: 4..=18 };

/// A consumer that was sent elsewhere and is here again is not sent away for so long: as long as clients remember it.
const LED_AWAY: Duration = Duration::from_secs(5 * 60);

/// The first version that names topics by id.
const BY_ID_FROM: i16 = 13;

pub(super) async fn handle(context: &Context, call: &Call, request: FetchRequest) -> Reply {
    let asked = Asked { session: request.session_id, epoch: request.session_epoch, by_id: call.version >= BY_ID_FROM };
    let mut turn = match context.fetch_sessions.begin(asked) {
        Ok(turn) => turn,
        Err(error) => {
            let response = FetchResponse { error_code: error.code(), ..Default::default() };
            return answer_holding(call, &response, Vec::new());
        }
    };
    note(turn.session(), asked, &request, &context.replica.state());
    let mut limits = FetchLimits {
        max_bytes: u64::try_from(request.max_bytes).unwrap_or(0),
        min_bytes: u64::try_from(request.min_bytes).unwrap_or(0),
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
    };
    let nearer = nearer(context, call, &request.rack_id);
    if nearer.is_some() {
        (limits.max_bytes, limits.max_wait) = (0, Duration::ZERO);
    }
    drop(request); // it pins its frame, and the fetch may wait
    let found = read(context, &mut turn, limits).await;
    let responses = respond(context, turn.session(), found.partitions, nearer.as_ref());
    let response = FetchResponse { responses, session_id: turn.finish(), ..Default::default() };
    answer_holding(call, &response, found.reservation.into_iter().collect())
}

/// Where the consumer should fetch, if not here.
fn nearer(context: &Context, call: &Call, rack: &str) -> Option<Leaders> {
    let found = brokers::nearer(context, &context.replica.state(), call, rack)?;
    let now = context.env.clock.now();
    let mut led_away = call.peer.led_away.lock();
    if led_away.is_some_and(|at| now.saturating_duration_since(at) < LED_AWAY) {
        return None;
    }
    *led_away = Some(now);
    Some(found)
}

/// Takes note of what the client wants otherwise from now on.
fn note(session: &mut Session, asked: Asked, request: &FetchRequest, state: &State) {
    let key = |name: &Text, id: Uuid| if asked.by_id { Key::Id(TopicId(id.0)) } else { Key::Name(name.clone()) };
    for topic in &request.topics {
        let key = key(&topic.topic, topic.topic_id);
        let partitions = topic.partitions.iter().map(|wanted| Want {
            index: wanted.partition.cast_unsigned(),
            offset: wanted.fetch_offset,
            max_bytes: u64::try_from(wanted.partition_max_bytes).unwrap_or(0),
        });
        session.want(&key, state, partitions);
    }
    if asked.is_full() {
        return;
    }
    for topic in &request.forgotten_topics_data {
        let key = key(&topic.topic, topic.topic_id);
        topic.partitions.iter().for_each(|index| session.forget(&key, index.cast_unsigned()));
    }
}

/// Waits and reads. A name that is not known here is looked up again behind a barrier: another broker may have created
/// the topic a moment ago. What is unknown then is answered by its error.
async fn read(context: &Context, turn: &mut Turn, limits: FetchLimits) -> FetchAnswer {
    if !turn.session().resolve(&context.replica.state()) && context.replica.barrier().await.is_ok() {
        turn.session().resolve(&context.replica.state());
    }
    context.reader.fetch_news(turn.interest(), limits).await
}

/// Neighbours of one topic share its entry.
fn respond(
    context: &Context,
    session: &mut Session,
    found: Vec<Found>,
    nearer: Option<&Leaders>,
) -> Vec<FetchableTopicResponse> {
    let state = context.replica.state();
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    for found in found {
        let is_unknown = found.error == Some(FetchError::UnknownTopicOrPartition);
        let Some(key) = session.key_of(found.slot, is_unknown) else { continue };
        let (topic, topic_id, has_topic) = match key {
            Key::Name(name) => (name.clone(), Uuid::default(), true),
            Key::Id(id) => (Text::default(), Uuid(id.0), state.topic(*id).is_some()),
        };
        let error = match found.error {
            None => ErrorCode::None,
            Some(FetchError::UnknownTopicOrPartition) if !has_topic => ErrorCode::UnknownTopicId,
            Some(error) => errors::read(error),
        };
        let elsewhere = nearer.and_then(|leaders| leaders.of(found.partition)).filter(|_| error == ErrorCode::None);
        let data = partition(found, error, elsewhere);
        match topics.last_mut() {
            Some(last) if last.topic == topic && last.topic_id == topic_id => last.partitions.push(data),
            _ => topics.push(FetchableTopicResponse { topic, topic_id, partitions: vec![data] }),
        }
    }
    topics
}

fn partition(found: Found, error: ErrorCode, elsewhere: Option<i32>) -> PartitionData {
    let slices = if elsewhere.is_some() { Vec::new() } else { found.slices };
    PartitionData {
        partition_index: found.partition.partition.cast_signed(),
        error_code: error.code(),
        high_watermark: found.bounds.high_watermark,
        last_stable_offset: found.bounds.last_stable_offset,
        log_start_offset: found.bounds.log_start,
        preferred_read_replica: elsewhere.unwrap_or(-1),
        records: Records::from(slices),
        ..Default::default()
    }
}
