//! InitProducerId (key 22), versions 0–5.
//!
//! Without a transactional id the answer is always a fresh id with epoch 0, whatever the request carries (KIP-360's
//! id and epoch, v3): a fresh id is strict, so nothing of an earlier life can be taken for a duplicate. At the bound
//! of living ids the error is retriable.
//!
//! There are no transactions. A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, an empty one with
//! INVALID_REQUEST. The answer has no room for words, and few errors end `initTransactions` at once: this is the one
//! that librdkafka takes as fatal, that Java throws, and whose name in both points at the setting to leave out. (Either
//! would try again until its timeout after an error that it finds retriable, and librdkafka after any that it does not
//! expect.) The words are in the log.

use kafscale_metadata::{Command, Outcome, Refusal};
use kafscale_wire::ErrorCode;
use kafscale_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use tracing::warn;

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 22, name: "InitProducerId", advertised: 0..=5, served: 0..=5 };

/// A log line shows this much of an id.
const SHOWN_ID_BYTES: usize = 64;

pub(super) async fn handle(context: &Context, call: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let allocated = match request.transactional_id {
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(id) => Err(refuse(context, call, &id)),
        None => allocate(context).await,
    };
    match allocated {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error) => InitProducerIdResponse { error_code: error.code(), producer_epoch: -1, ..Default::default() },
    }
}

fn refuse(context: &Context, call: &Call, id: &str) -> ErrorCode {
    if let Some(left_out) = context.transactional.admit(context.env.clock.now()) {
        let shown = &id[..id.floor_char_boundary(SHOWN_ID_BYTES)];
        warn!(peer = %call.peer.addr, transactional_id = ?shown, left_out,
            "a producer was refused: there are no transactions here; leave its transactional.id out");
    }
    ErrorCode::TransactionalIdAuthorizationFailed
}

async fn allocate(context: &Context) -> Result<i64, ErrorCode> {
    match context.replica.propose(Command::AllocateProducerIds { count: 1 }).await.map_err(errors::commit)? {
        Outcome::ProducerIds { first } => Ok(first),
        Outcome::Refused(Refusal::LimitReached) => Err(ErrorCode::CoordinatorLoadInProgress),
        Outcome::Refused(refusal) => Err(errors::refusal(refusal)),
        Outcome::Done | Outcome::Bundle(_) | Outcome::Offsets(_) => Err(ErrorCode::UnknownServerError),
    }
}
