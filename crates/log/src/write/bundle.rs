//! The batches of one sealed bundle, from their layout in an object to the answer of each. Owns where each batch lies
//! in the object that was last assembled, so that a batch can be left out of the commit after the upload: what is
//! left of its run is then two runs. Does not own the stage of the bundle (`pipeline`). Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafscale_metadata::{CommitBundle, ObjectId, Run, Verdict};

use super::buffer::{Numbering, Pending};
use super::ticket::{Dropped, Written};
use crate::segment::{Section, assemble};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// By partition, and in it in the order in which they will have offsets.
    batches: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    pending: Pending,
    /// Where it begins in the object; 0 before there is one.
    position: u32,
}

impl Bundle {
    /// `batches` as the buffer seals them: grouped by partition.
    pub(crate) fn new(batches: Vec<Pending>) -> Self {
        Self { batches: batches.into_iter().map(|pending| Placed { pending, position: 0 }).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batches.iter().map(|placed| placed.pending.bytes()).sum()
    }

    /// Lays the batches out as `object`; returns its bytes. Record bytes are shared, not copied.
    pub(crate) fn assemble(&mut self, cluster: u128, object: ObjectId) -> Vec<Bytes> {
        let mut sections: Vec<Section> = Vec::new();
        for Placed { pending, .. } in &self.batches {
            let sealed = pending.batch.sealed().clone();
            match sections.last_mut() {
                Some(section) if section.partition == pending.partition => section.batches.push(sealed),
                Some(_) | None => sections.push(Section { partition: pending.partition, batches: vec![sealed] }),
            }
        }
        let assembled = assemble(cluster, object, sections);
        let positions = assembled.runs.iter().flat_map(|run| {
            run.batches.iter().scan(run.position, |next, batch| {
                let position = *next;
                *next += batch.bytes;
                Some(position)
            })
        });
        for (placed, position) in self.batches.iter_mut().zip(positions) {
            placed.position = position;
        }
        assembled.slices
    }

    /// The commit of what is (still) in the bundle. Batches that lie one after the other make a run; where one was
    /// taken out, a new run begins.
    pub(crate) fn commit(&self, object: ObjectId) -> CommitBundle {
        let mut runs: Vec<Run> = Vec::new();
        let mut run_end = 0;
        for Placed { pending, position } in &self.batches {
            let meta = *pending.batch.meta();
            match runs.last_mut() {
                Some(run) if run.partition == pending.partition && run_end == *position => run.batches.push(meta),
                Some(_) | None => {
                    runs.push(Run { partition: pending.partition, position: *position, batches: vec![meta] });
                }
            }
            run_end = position + meta.bytes;
        }
        CommitBundle { number: object.number, runs }
    }

    /// Tells each waiter the verdict on its own batch; `verdicts` is the answer to [`Bundle::commit`].
    ///
    /// # Panics
    /// If there is not one verdict for each batch: no waiter may be told another batch's.
    pub(crate) fn answer(self, verdicts: Vec<Vec<Verdict>>) {
        let verdicts: Vec<Verdict> = verdicts.into_iter().flatten().collect();
        assert_eq!(verdicts.len(), self.batches.len(), "the fold gives one verdict for each batch of a bundle");
        for (Placed { pending, .. }, verdict) in self.batches.into_iter().zip(verdicts) {
            let outcome = match verdict {
                // A duplicate is answered with its first offset and no error (KIP-98).
                Verdict::Accepted { first_offset, log_start } | Verdict::Duplicate { first_offset, log_start } => {
                    Written::Appended { first_offset, log_start, append_time: pending.batch.append_time() }
                }
                Verdict::Refused(refusal) => Written::Refused(refusal),
            };
            pending.ticket.tell(outcome);
        }
    }

    /// Tells all waiters that the bundle's batches may be in the log.
    pub(crate) fn unknown(self) {
        self.tell_all(Written::Unknown);
    }

    /// Tells all waiters that their batches never reached the journal.
    pub(crate) fn dropped(self, why: Dropped) {
        self.tell_all(Written::Dropped(why));
    }

    /// Whose numbered batches are in the bundle.
    pub(crate) fn numberings(&self) -> BTreeSet<Numbering> {
        self.batches.iter().filter_map(|placed| placed.pending.numbering()).collect()
    }

    /// Takes out the batches of some numberings; the others stay where they are in the object.
    pub(crate) fn take(&mut self, numberings: &BTreeSet<Numbering>) -> Self {
        let is_taken = |placed: &Placed| placed.pending.numbering().is_some_and(|n| numberings.contains(&n));
        let (taken, kept) = std::mem::take(&mut self.batches).into_iter().partition(is_taken);
        self.batches = kept;
        Self { batches: taken }
    }

    fn tell_all(self, outcome: Written) {
        for Placed { pending, .. } in self.batches {
            pending.ticket.tell(outcome);
        }
    }
}
