//! Whether producers got what they were told.

use std::collections::BTreeMap;

use kafscale_metadata::TopicId;

use super::{Truth, Violation, break_rule};
use crate::history::{Fate, History, Sent};

/// Where a record is: topic, partition, offset.
type Spot = (TopicId, u32, i64);

/// Judges all batches.
pub(super) fn judge(history: &History, truth: &Truth, found: &mut Vec<Violation>) {
    let spots = spots(truth);
    for (index, batch) in history.sent.iter().enumerate() {
        let copies = copies(batch, &spots);
        let context = || format!("batch {index} of p{} ({:?})", batch.producer, batch.ids);
        if let Err(what) = &copies {
            break_rule(found, "whole", format!("{}: {what}", context()));
        }
        let copies = copies.unwrap_or_default();
        if let Some(spot) = copies.iter().find(|spot| !belongs(batch, truth, spot)) {
            break_rule(found, "offsets", format!("{} is in {spot:?}, where it was not sent", context()));
        }
        match batch.fate {
            Fate::Acked(offset) if !copies.iter().any(|spot| spot.2 == offset) => {
                break_rule(
                    found,
                    "acknowledged",
                    format!("{} was acknowledged at {offset}, and is at {copies:?}", context()),
                );
            }
            Fate::AckedSomewhere if copies.is_empty() => {
                break_rule(found, "acknowledged", format!("{} was said to be a duplicate, and is nowhere", context()));
            }
            Fate::Refused(code) if !copies.is_empty() => {
                break_rule(found, "refused", format!("{} was refused with {code}, and is at {copies:?}", context()));
            }
            Fate::Acked(_) | Fate::AckedSomewhere | Fate::Refused(_) | Fate::Unknown => {}
        }
        // Each attempt counts once: that which was acknowledged, and those of which nobody knows.
        let acked = usize::from(matches!(batch.fate, Fate::Acked(_) | Fate::AckedSomewhere));
        let possible = acked + batch.attempts.doubted as usize;
        if copies.len() > possible {
            let what =
                format!("{} is there {} times: {copies:?}; only {possible} attempts can have", context(), copies.len());
            break_rule(found, "refused", what);
        }
        // A topic that is created again under its name may get once more what the deleted one had.
        let again = copies.iter().any(|spot| copies.iter().filter(|other| other.0 == spot.0).count() > 1);
        if batch.idempotent && !batch.attempts.renumbered && again {
            break_rule(found, "once", format!("{} is there {} times: {copies:?}", context(), copies.len()));
        }
        if batch.quiet && !batch.silent && !matches!(batch.fate, Fate::Acked(_)) {
            break_rule(found, "progress", format!("{}, made after all faults: {:?}", context(), batch.fate));
        }
    }
    order(history, truth, &spots, found);
}

fn spots(truth: &Truth) -> BTreeMap<u64, Vec<Spot>> {
    let mut spots: BTreeMap<u64, Vec<Spot>> = BTreeMap::new();
    for ((topic, partition), log) in &truth.logs {
        for (first, ids) in log {
            for (offset, id) in (*first..).zip(ids) {
                spots.entry(*id).or_default().push((*topic, *partition, offset));
            }
        }
    }
    spots
}

/// Where copies of the whole batch begin. The error: a part of it is somewhere without the rest.
fn copies(batch: &Sent, spots: &BTreeMap<u64, Vec<Spot>>) -> Result<Vec<Spot>, String> {
    let of = |id: u64| spots.get(&id).map(Vec::as_slice).unwrap_or_default();
    let firsts = of(batch.ids.start);
    for (delta, id) in (0..).zip(batch.ids.clone()) {
        let here = of(id);
        let fits = here.len() == firsts.len()
            && here.iter().zip(firsts).all(|(here, first)| *here == (first.0, first.1, first.2 + delta));
        if !fits {
            return Err(format!("record {id} is at {here:?}, and its first one at {firsts:?}"));
        }
    }
    Ok(firsts.to_vec())
}

fn belongs(batch: &Sent, truth: &Truth, spot: &Spot) -> bool {
    truth.names.get(&spot.0).is_some_and(|name| *name == batch.topic) && spot.1 == batch.partition
}

/// The batches of an idempotent producer are in a partition in the order in which it made them, but for those that
/// it numbered anew.
fn order(history: &History, truth: &Truth, spots: &BTreeMap<u64, Vec<Spot>>, found: &mut Vec<Violation>) {
    let mut last: BTreeMap<(usize, TopicId, u32), i64> = BTreeMap::new();
    for batch in history.sent.iter().filter(|batch| batch.idempotent && !batch.attempts.renumbered) {
        let Some(spot) = spots.get(&batch.ids.start).and_then(|spots| spots.first()) else { continue };
        // A topic that was created again takes producers in the middle of their numbering, and what they retry late
        // comes after what they sent at once.
        if truth.named(&batch.topic).count() != 1 {
            continue;
        }
        let before = last.insert((batch.producer, spot.0, spot.1), spot.2);
        if before.is_some_and(|before| before > spot.2) {
            let what =
                format!("p{}: {:?} is at {spot:?}, behind {before:?}, and was made later", batch.producer, batch.ids);
            break_rule(found, "order", what);
        }
    }
}
