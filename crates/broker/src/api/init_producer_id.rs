//! InitProducerId (key 22), versions 0–5.
//!
//! Without a transactional id the answer is always a fresh id with epoch 0, whatever the request carries (KIP-360's
//! id and epoch, v3): a fresh id is strict, so nothing of an earlier life can be taken for a duplicate. At the bound
//! of living ids the error is retriable. A transactional id is refused in a way that makes Java and librdkafka fail at
//! once instead of looking for a coordinator for ever: there are no transactions.

use kafscale_metadata::{Command, Outcome, Refusal};
use kafscale_wire::ErrorCode;
use kafscale_wire::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Call, Context, Supported, errors};

pub(super) const API: Supported = Supported { key: 22, name: "InitProducerId", advertised: 0..=5, served: 0..=5 };

pub(super) async fn handle(context: &Context, _: &Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let allocated = match request.transactional_id {
        Some(_) => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None => allocate(context).await,
    };
    match allocated {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error) => InitProducerIdResponse { error_code: error.code(), producer_epoch: -1, ..Default::default() },
    }
}

async fn allocate(context: &Context) -> Result<i64, ErrorCode> {
    match context.replica.propose(Command::AllocateProducerIds { count: 1 }).await.map_err(errors::commit)? {
        Outcome::ProducerIds { first } => Ok(first),
        Outcome::Refused(Refusal::LimitReached) => Err(ErrorCode::CoordinatorLoadInProgress),
        Outcome::Refused(refusal) => Err(errors::refusal(refusal)),
        Outcome::Done | Outcome::Bundle(_) | Outcome::Offsets(_) => Err(ErrorCode::UnknownServerError),
    }
}
