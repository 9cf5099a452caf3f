//! Which Kafka error code says what: the only place where the product's own errors become numbers on the wire.
//!
//! The rule that matters most (JOURNAL.md): a write whose outcome is unknown is never answered by an error that says
//! "not written". librdkafka and Java renumber their batches after such an answer, and if the first one landed after
//! all, its records would be there twice. So: unknown is NOT_ENOUGH_REPLICAS_AFTER_APPEND, and a definite refusal that
//! the client should repeat is NOT_ENOUGH_REPLICAS.

use kafscale_groups::Error as GroupError;
use kafscale_log::read::FetchError;
use kafscale_log::write::{Dropped, Invalid};
use kafscale_log::{CommitError, Stopped};
use kafscale_metadata::Refusal;
use kafscale_metadata::fold::is_topic_name;
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
        Refusal::UnknownGroup => ErrorCode::GroupIdNotFound,
        Refusal::UnknownMember => ErrorCode::UnknownMemberId,
        Refusal::IllegalGeneration => ErrorCode::IllegalGeneration,
        Refusal::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        Refusal::GroupNotEmpty => ErrorCode::NonEmptyGroup,
        Refusal::NotCoordinator => ErrorCode::NotCoordinator,
    }
}

/// A topic that does not exist, by its name: those that cannot exist are told apart, as Kafka does.
pub(super) fn no_topic(name: &str) -> ErrorCode {
    if is_topic_name(name) { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException }
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

/// A batch that was not even let in.
pub(super) fn invalid(invalid: &Invalid) -> ErrorCode {
    match invalid {
        Invalid::Malformed(_) => ErrorCode::InvalidRecord,
        Invalid::Corrupt => ErrorCode::CorruptMessage,
        Invalid::TooLarge { .. } => ErrorCode::MessageTooLarge,
        Invalid::Compression { .. } => ErrorCode::UnsupportedCompressionType,
        Invalid::Timestamp { .. } => ErrorCode::InvalidTimestamp,
        Invalid::Transactional => ErrorCode::InvalidTxnState,
    }
}

/// A batch that never reached the journal, through no fault of its own: the client sends it again.
pub(super) fn dropped(why: Dropped) -> ErrorCode {
    match why {
        Dropped::StoreFull
        | Dropped::StoreFailed
        | Dropped::JournalFull
        | Dropped::Predecessor
        | Dropped::Overloaded => ErrorCode::NotEnoughReplicas,
        Dropped::Stopping => ErrorCode::NotLeaderOrFollower,
    }
}

/// A partition that could not be read.
pub(super) fn read(error: FetchError) -> ErrorCode {
    match error {
        FetchError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        FetchError::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        FetchError::Corrupt => ErrorCode::CorruptMessage,
        FetchError::StoreFailed => ErrorCode::KafkaStorageError,
        FetchError::Stopped => ErrorCode::NotLeaderOrFollower,
    }
}

/// Why the coordinator of a group says no.
pub(super) fn group(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::UnknownMember => ErrorCode::UnknownMemberId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::FencedInstance => ErrorCode::FencedInstanceId,
        GroupError::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::GroupFull => ErrorCode::GroupMaxSizeReached,
        GroupError::MemberIdRequired(_) => ErrorCode::MemberIdRequired,
        GroupError::InvalidGroup => ErrorCode::InvalidGroupId,
        GroupError::NotEmpty => ErrorCode::NonEmptyGroup,
        GroupError::NotFound => ErrorCode::GroupIdNotFound,
        GroupError::Subscribed => ErrorCode::GroupSubscribedToTopic,
        GroupError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        GroupError::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::TooLarge => ErrorCode::UnknownServerError,
        GroupError::Retry => ErrorCode::CoordinatorNotAvailable,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
    }
}

/// As [`group`], with the code for "no error".
pub(super) fn group_result(result: Result<(), GroupError>) -> ErrorCode {
    result.map_or_else(|error| group(&error), |()| ErrorCode::None)
}

/// As [`stopped`], where a client asks the coordinator of a group.
pub(super) fn coordinator_stopped(_: Stopped) -> ErrorCode {
    group(&GroupError::NotCoordinator)
}
