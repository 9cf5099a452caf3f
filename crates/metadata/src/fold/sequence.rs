//! The numbering of an idempotent producer on one partition: is a batch the next one, a repeat, or neither (KIP-98).
//!
//! Sequences run from 0 to 2^31 − 1 and begin again at 0. All comparisons are distances back from the last accepted
//! sequence, modulo 2^31.

use crate::command::{ProducerBatch, Refusal};
use crate::limits::BATCHES_PER_PRODUCER;
use crate::state::{KeptBatch, ProducerState};

const SEQUENCES: u64 = 1 << 31;
const CONSECUTIVE_MAX: u32 = 1 << 30;

/// What a batch is to its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Next,
    Duplicate { first_offset: i64 },
    Refused(Refusal),
}

/// The sequence of a batch's last record.
pub(super) fn last_sequence(batch: ProducerBatch, records: u32) -> i32 {
    let last = u64::from(batch.first_sequence.unsigned_abs()) + u64::from(records).saturating_sub(1);
    i32::try_from(last % SEQUENCES).unwrap_or(0)
}

/// `state` is what the partition remembers of the producer; without any, `anywhere` says whether it may start at a
/// sequence other than 0.
pub(super) fn judge(state: Option<&ProducerState>, batch: ProducerBatch, records: u32, anywhere: bool) -> Judgement {
    let starts = batch.first_sequence == 0;
    let Some(state) = state else {
        return if starts || anywhere { Judgement::Next } else { Judgement::Refused(Refusal::OutOfOrderSequence) };
    };
    if batch.epoch < state.epoch {
        return Judgement::Refused(Refusal::FencedEpoch);
    }
    if batch.epoch > state.epoch {
        return if starts { Judgement::Next } else { Judgement::Refused(Refusal::OutOfOrderSequence) };
    }
    let last = last_sequence(batch, records);
    if let Some(kept) =
        state.kept().iter().find(|k| k.first_sequence == batch.first_sequence && k.last_sequence == last)
    {
        return Judgement::Duplicate { first_offset: kept.first_offset };
    }
    if u64::from(batch.first_sequence.unsigned_abs()) == next_sequence(state) {
        return Judgement::Next;
    }
    if was_seen(state, batch.first_sequence, last) {
        return Judgement::Refused(Refusal::DuplicateSequence);
    }
    Judgement::Refused(Refusal::OutOfOrderSequence)
}

fn next_sequence(state: &ProducerState) -> u64 {
    (u64::from(state.last_sequence().unsigned_abs()) + 1) % SEQUENCES
}

/// Whether all records of the batch are in the log for sure, in batches older than those that are kept.
///
/// Kafka answers OUT_OF_ORDER_SEQUENCE_NUMBER here; librdkafka then fails for good if it is the oldest batch in
/// flight, and Java bumps its epoch and sends the records again: twice in the log. Both take
/// DUPLICATE_SEQUENCE_NUMBER for what it is, a success without an offset. Since that answer ends the matter for the
/// client, it is given only for what was accepted for sure: within the consecutive sequences of this epoch.
fn was_seen(state: &ProducerState, first: i32, last: i32) -> bool {
    let back = |sequence: i32| distance(state.last_sequence(), sequence);
    // Summed up, not the distance to the oldest: five huge batches can go around all sequences.
    let kept: u64 = state.kept().iter().map(|k| distance(k.last_sequence, k.first_sequence) + 1).sum();
    back(first) < u64::from(state.consecutive) && back(last) <= back(first) && back(last) >= kept
}

/// How many sequences `to` lies back from `from`.
fn distance(from: i32, to: i32) -> u64 {
    (u64::from(from.unsigned_abs()) + SEQUENCES - u64::from(to.unsigned_abs())) % SEQUENCES
}

/// What the partition remembers after it accepted the batch at `first_offset`.
pub(super) fn advance(
    state: Option<&ProducerState>,
    batch: ProducerBatch,
    records: u32,
    first_offset: i64,
) -> ProducerState {
    let fresh = ProducerState { epoch: batch.epoch, kept: 0, consecutive: 0, batches: Default::default() };
    let mut next = state.copied().filter(|s| s.epoch == batch.epoch).unwrap_or(fresh);
    if usize::from(next.kept) == BATCHES_PER_PRODUCER {
        next.batches.rotate_left(1);
        next.kept -= 1;
    }
    let kept =
        KeptBatch { first_sequence: batch.first_sequence, last_sequence: last_sequence(batch, records), first_offset };
    if let Some(slot) = next.batches.get_mut(usize::from(next.kept)) {
        *slot = kept;
        next.kept += 1;
    }
    next.consecutive = next.consecutive.saturating_add(records).min(CONSECUTIVE_MAX);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first_sequence: i32) -> ProducerBatch {
        ProducerBatch { id: 1, epoch, first_sequence }
    }

    fn after(batches: &[(i32, u32)]) -> ProducerState {
        let mut state = None;
        for (offset, (first, records)) in batches.iter().enumerate() {
            state = Some(advance(state.as_ref(), batch(0, *first), *records, offset as i64));
        }
        state.unwrap()
    }

    #[test]
    fn sequences_wrap_behind_the_largest() {
        assert_eq!(last_sequence(batch(0, i32::MAX), 1), i32::MAX);
        assert_eq!(last_sequence(batch(0, i32::MAX), 2), 0);
        assert_eq!(last_sequence(batch(0, i32::MAX - 1), 5), 2);
        let state = after(&[(i32::MAX - 1, 2)]);
        assert_eq!(judge(Some(&state), batch(0, 0), 1, false), Judgement::Next);
        let state = after(&[(i32::MAX - 1, 5)]);
        assert_eq!(judge(Some(&state), batch(0, 3), 1, false), Judgement::Next);
        assert_eq!(judge(Some(&state), batch(0, i32::MAX - 1), 5, false), Judgement::Duplicate { first_offset: 0 });
    }

    #[test]
    fn huge_batches_go_around_all_sequences() {
        // 2^31 + 1 sequences: the distance back to the oldest is 0 again, and 2^31 - 1 is among those that are kept.
        let state = after(&[(0, i32::MAX as u32), (i32::MAX, 2)]);
        assert_eq!(judge(Some(&state), batch(0, i32::MAX), 1, true), Judgement::Refused(Refusal::OutOfOrderSequence));
    }

    #[test]
    fn what_was_never_accepted_is_no_duplicate() {
        let state = after(&[(100, 1), (101, 1), (102, 1), (103, 1), (104, 1), (105, 1), (106, 1)]);
        let refused = |r| Judgement::Refused(r);
        assert_eq!(judge(Some(&state), batch(0, 101), 1, true), refused(Refusal::DuplicateSequence));
        assert_eq!(judge(Some(&state), batch(0, 100), 2, true), refused(Refusal::DuplicateSequence));
        assert_eq!(
            judge(Some(&state), batch(0, 99), 1, true),
            refused(Refusal::OutOfOrderSequence),
            "before the start"
        );
        assert_eq!(judge(Some(&state), batch(0, 99), 2, true), refused(Refusal::OutOfOrderSequence), "half of it");
        assert_eq!(judge(Some(&state), batch(0, 101), 2, true), refused(Refusal::OutOfOrderSequence), "half kept");
        assert_eq!(judge(Some(&state), batch(0, 108), 1, true), refused(Refusal::OutOfOrderSequence), "a gap");
    }
}
