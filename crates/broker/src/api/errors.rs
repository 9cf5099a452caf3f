//! Which Kafka error code says what: the only place where the product's own errors become numbers on the wire.
//!
//! The rule that matters most (JOURNAL.md): a write whose outcome is unknown is never answered by an error that says
//! "not written". librdkafka and Java renumber their batches after such an answer, and if the first one landed after
//! all, its records would be there twice. So: unknown is NOT_ENOUGH_REPLICAS_AFTER_APPEND, and a definite refusal that
//! the client should repeat is NOT_ENOUGH_REPLICAS.

use kafscale_log::{CommitError, Stopped};
use kafscale_metadata::Refusal;
use kafscale_wire::ErrorCode;

/// The verdict of the fold.
pub(super) fn refusal(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        Refusal::TopicExists => ErrorCode::TopicAlreadyExists,
        Refusal::InvalidTopicName => ErrorCode::InvalidTopicException,
        Refusal::InvalidPartitions => ErrorCode::InvalidPartitions,
        Refusal::LimitReached => ErrorCode::PolicyViolation,
        Refusal::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        Refusal::FencedEpoch => ErrorCode::InvalidProducerEpoch,
        Refusal::DuplicateSequence => ErrorCode::DuplicateSequenceNumber,
        Refusal::NotAllowed => ErrorCode::InvalidRequest,
    }
}

/// A command other than a produce has no outcome. These may be repeated: what was done already says so.
pub(super) fn commit(error: CommitError) -> ErrorCode {
    match error {
        CommitError::Refused => ErrorCode::NotEnoughReplicas,
        CommitError::Unknown => ErrorCode::RequestTimedOut,
    }
}

/// The broker is ending; the client finds another one, or this one after its restart.
pub(super) fn stopped(_: Stopped) -> ErrorCode {
    ErrorCode::NotLeaderOrFollower
}
