//! OffsetCommit and OffsetDelete: who may, what need not be written, and the verdicts.
//!
//! Memory refuses what it knows to be wrong; the fold checks member and generation again, at the commit's place in the
//! journal. A commit that changes nothing is not written: only if the caller's fold is fresh, nothing else is on its way
//! for the partition, and the stored one is young.

use std::collections::{BTreeMap, BTreeSet};

use kafscale_metadata::{
    Command, CommitOffsets, GroupStage, MemberId, OffsetCommit, Outcome, TopicPartition, limits, subscribed_topics,
};

use super::journal::{Failure, all_done};
use super::{Machine, Stage};
use crate::groups::NotDecided;
use crate::settings::PARTITIONS_PER_PART;
use crate::turn::Turn;
use crate::{Answer, Commit, Error, ProposalId, Token, parts};

/// What clients call the protocol type of consumers.
const CONSUMER: &str = "consumer";

/// A verdict for each of a request's offsets.
type Answers = Vec<Result<(), Error>>;

/// Offsets on their way through the journal.
#[derive(Debug, Default)]
pub(super) struct Writes {
    under_way: BTreeMap<ProposalId, Write>,
    /// How many of them name a partition.
    partitions: BTreeMap<TopicPartition, u32>,
}

/// One of them.
#[derive(Debug)]
struct Write {
    token: Token,
    /// Verdicts in the request's order; of those that are being written a yes that may become a no.
    answers: Answers,
    partitions: Vec<TopicPartition>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// By this member, if it is one; for each command the places of its offsets among the answers.
    Commit {
        member: Option<MemberId>,
        places: Vec<Vec<usize>>,
    },
    Delete,
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn has(&self, id: ProposalId) -> bool {
        self.under_way.contains_key(&id)
    }

    fn names(&self, partition: TopicPartition) -> bool {
        self.partitions.contains_key(&partition)
    }

    fn begin(&mut self, id: ProposalId, write: Write) {
        for partition in &write.partitions {
            *self.partitions.entry(*partition).or_default() += 1;
        }
        self.under_way.insert(id, write);
    }

    fn end(&mut self, id: ProposalId) -> Option<Write> {
        let write = self.under_way.remove(&id)?;
        for partition in &write.partitions {
            if let Some(count) = self.partitions.get_mut(partition) {
                *count -= 1;
                if *count == 0 {
                    self.partitions.remove(partition);
                }
            }
        }
        Some(write)
    }
}

impl Machine {
    pub(super) fn commit(&mut self, turn: &mut Turn<'_>, token: Token, commit: Commit) {
        let member = match self.check_commit(turn, &commit) {
            Ok(member) => member,
            Err(error) => return turn.answer(token, Answer::Commit(Err(error))),
        };
        if matches!(&self.stage, Stage::Stable { .. } | Stage::Preparing { .. }) {
            self.members.touch(&commit.member_id, turn.now);
        }
        let head = CommitOffsets {
            group: self.group.to_string(),
            generation: if member.is_some() { commit.generation } else { -1 },
            member: member.as_deref().unwrap_or("").to_owned(),
            offsets: Vec::new(),
        };
        let (answers, written) = self.to_write(turn, commit);
        if written.is_empty() {
            return turn.answer(token, Answer::Commit(Ok(answers)));
        }
        let partitions = written.iter().map(|(_, offset)| offset.partition).collect();
        let (commands, places) = parts::commit(&head, written);
        let id = turn.propose(commands);
        if let Some(member) = &member {
            self.members.commit_begins(member);
        }
        self.writes.begin(id, Write { token, answers, partitions, kind: Kind::Commit { member, places } });
    }

    /// Who commits: a member, or, while there are none, anybody (an administrator, or a consumer that assigns itself).
    fn check_commit(&self, turn: &Turn<'_>, commit: &Commit) -> Result<Option<MemberId>, Error> {
        let exists = self.holds_members() || turn.state.group(&self.group).is_some();
        let empty = matches!(self.stage, Stage::Empty);
        if commit.generation < 0 && (empty || !exists) {
            return Ok(None);
        }
        if !exists {
            return Err(Error::NotFound);
        }
        if commit.generation < 0 && commit.member_id.is_empty() && commit.instance.is_none() {
            return Err(Error::UnknownMember);
        }
        self.check_member(&commit.member_id, commit.instance.as_deref())?;
        if commit.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        // Also when the next rebalance began before the assignment came: the fold would refuse it, so a commit that
        // changes nothing must not be told otherwise.
        let stored = turn.state.group(&self.group);
        if stored.is_some_and(|group| group.stage() == GroupStage::Joined) {
            return Err(Error::RebalanceInProgress);
        }
        Ok(Some(commit.member_id.as_str().into()))
    }

    /// The answers as far as they are known, and what is to be written, each with its place.
    fn to_write(&self, turn: &Turn<'_>, commit: Commit) -> (Answers, Vec<(usize, OffsetCommit)>) {
        let mut named = BTreeSet::new();
        let (mut answers, mut written) = (Vec::with_capacity(commit.offsets.len()), Vec::new());
        for (place, offset) in commit.offsets.into_iter().enumerate() {
            if offset.metadata.len() > limits::OFFSET_METADATA_BYTES {
                answers.push(Err(Error::MetadataTooLarge));
                continue;
            }
            answers.push(Ok(()));
            let under_way = self.writes.names(offset.partition) || named.contains(&offset.partition);
            if under_way || !self.is_stored(turn, &offset, commit.fresh_at_ms) {
                named.insert(offset.partition);
                written.push((place, offset));
            }
        }
        (answers, written)
    }

    fn is_stored(&self, turn: &Turn<'_>, offset: &OffsetCommit, fresh_at_ms: Option<i64>) -> bool {
        let stored = turn.state.group(&self.group).and_then(|group| group.offset(offset.partition));
        let (Some(stored), Some(now_ms)) = (stored, fresh_at_ms) else { return false };
        stored.offset == offset.offset
            && stored.leader_epoch == offset.leader_epoch
            && *stored.metadata == *offset.metadata
            && now_ms.saturating_sub(stored.committed_ms) < turn.settings.commit_refresh_ms
    }

    /// Offsets of topics that the members consume stay.
    pub(super) fn delete_offsets(&mut self, turn: &mut Turn<'_>, token: Token, partitions: &[TopicPartition]) {
        if !self.holds_members() && turn.state.group(&self.group).is_none() {
            return turn.answer(token, Answer::DeleteOffsets(Err(Error::NotFound)));
        }
        let empty = matches!(self.stage, Stage::Empty);
        if !empty && self.protocol_type != CONSUMER {
            return turn.answer(token, Answer::DeleteOffsets(Err(Error::NotEmpty)));
        }
        let subscribed = if empty { Some(BTreeSet::new()) } else { self.subscribed(turn) };
        let uses = |partition: &TopicPartition| {
            let name = turn.state.topic(partition.topic).map(|topic| topic.name());
            subscribed.as_ref().is_none_or(|topics| name.is_some_and(|name| topics.contains(name)))
        };
        let stored = turn.state.group(&self.group);
        let goes = |p: &TopicPartition| {
            !uses(p) && (self.writes.names(*p) || stored.is_some_and(|group| group.offset(*p).is_some()))
        };
        let answers = partitions.iter().map(|p| if uses(p) { Err(Error::Subscribed) } else { Ok(()) }).collect();
        let gone: Vec<TopicPartition> = partitions.iter().filter(|p| goes(p)).copied().collect();
        if gone.is_empty() {
            return turn.answer(token, Answer::DeleteOffsets(Ok(answers)));
        }
        let command = |part: &[TopicPartition]| Command::DeleteOffsets {
            group: self.group.to_string(),
            partitions: part.to_vec(),
        };
        let id = turn.propose(gone.chunks(PARTITIONS_PER_PART).map(command).collect());
        self.writes.begin(id, Write { token, answers, partitions: gone, kind: Kind::Delete });
    }

    /// The topics of the generation's members; `None` if that cannot be said, and then all may be.
    fn subscribed<'a>(&self, turn: &Turn<'a>) -> Option<BTreeSet<&'a str>> {
        let group = turn.state.group(&self.group).filter(|group| group.members().len() > 0)?;
        let mut topics = BTreeSet::new();
        for member in group.members() {
            topics.extend(subscribed_topics(member.subscription())?);
        }
        Some(topics)
    }

    /// The verdict of offsets.
    pub(super) fn written(&mut self, turn: &mut Turn<'_>, id: ProposalId, verdict: Result<Vec<Outcome>, NotDecided>) {
        let Some(Write { token, mut answers, kind, .. }) = self.writes.end(id) else { return };
        let answer = match kind {
            Kind::Commit { member, places } => {
                if let Some(member) = member {
                    self.members.commit_ends(&member, turn.now);
                }
                Answer::Commit(committed(verdict, &places, &mut answers).map(|()| answers))
            }
            Kind::Delete => {
                let done = all_done(verdict).map_err(|failure| failure.error(Error::TooLarge));
                Answer::DeleteOffsets(done.map(|()| answers))
            }
        };
        turn.answer(token, answer);
    }
}

/// Puts the fold's verdicts at their places.
fn committed(
    verdict: Result<Vec<Outcome>, NotDecided>,
    places: &[Vec<usize>],
    answers: &mut [Result<(), Error>],
) -> Result<(), Error> {
    let outcomes = verdict.map_err(|undecided| Failure::NotDecided(undecided).error(Error::TooLarge))?;
    let refused = |refusal| Failure::Refused(refusal).error(Error::TooLarge);
    for (places, outcome) in places.iter().zip(outcomes) {
        let verdicts: Vec<_> = match outcome {
            Outcome::Offsets(verdicts) => verdicts,
            Outcome::Refused(refusal) => vec![Some(refusal); places.len()],
            Outcome::Done | Outcome::Bundle(_) | Outcome::ProducerIds { .. } => Vec::new(),
        };
        for (place, refusal) in places.iter().zip(verdicts) {
            answers[*place] = refusal.map_or(Ok(()), |refusal| Err(refused(refusal)));
        }
    }
    Ok(())
}
