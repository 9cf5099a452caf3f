//! The committer: turns proposals into journal entries, one append in flight; what arrives meanwhile shares the next
//! entry (group commit). Owns the numbering n of this session's entries. It never answers a waiter with a success:
//! that is the follower's, after the fold.
//!
//! Consumers commit their offsets all the time, and nothing waits for it but they themselves: while offset commits are
//! all there is to write, the entry lingers for a moment so that those of many groups share it. Whatever else comes
//! takes them along at once.
//!
//! An append whose outcome is unknown is repeated, same n and same bytes, until it is known; nothing else may be
//! written meanwhile, since a later entry with the same n would be another truth.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafscale_journal::sessions::Victim;
use kafscale_journal::{AppendError, Pointer, Position};
use kafscale_metadata::limits::FEATURE_LEVEL;
use kafscale_metadata::{Command, Entry, GroupMember, Reservation};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use super::pending::Reply;
use super::{End, Proposal, Replica};

/// An entry takes further commands until its estimated size reaches this (the journal takes 256 KiB). A command that
/// would take it beyond goes into the next one.
const ENTRY_TARGET_BYTES: usize = 192 << 10;

/// How long offset commits wait for others to share their entry.
const LINGER: Duration = Duration::from_millis(25);

/// How long to wait before an append is repeated, or after one was refused.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The commands of one entry, and how it goes into the journal.
struct Group {
    commands: Vec<Command>,
    replies: Vec<Reply>,
    how: How,
}

enum How {
    Append,
    Publish(Pointer),
    End(Victim),
    Leave,
}

/// What one entry came to.
enum Written {
    Committed,
    Refused,
}

pub(crate) struct Committer {
    replica: Arc<Replica>,
    proposals: mpsc::Receiver<Proposal>,
    /// A proposal that did not fit the group before it.
    held: Option<Proposal>,
    /// The next entry's number.
    n: u64,
}

impl Committer {
    pub(crate) fn new(replica: Arc<Replica>, proposals: mpsc::Receiver<Proposal>) -> Self {
        Self { replica, proposals, held: None, n: 1 }
    }

    pub(crate) async fn run(mut self) {
        let end = loop {
            let Some(group) = self.gather().await else { break End::Stopped };
            let leaving = matches!(group.how, How::Leave);
            match self.write(group).await {
                Err(end) => break end,
                Ok(Written::Committed) if leaving => break End::Stopped,
                Ok(Written::Committed) => {}
                Ok(Written::Refused) => self.pause().await,
            }
        };
        // Closed first: a proposal that comes now is refused, not lost.
        self.proposals.close();
        self.replica.finish(end);
    }

    /// After a refusal. Whoever waits for numbers still does: their entry is tried again.
    async fn pause(&self) {
        sleep(RETRY_PAUSE).await;
        self.replica.numbers.refused();
    }

    /// Waits for something to write, and takes along what is there already.
    async fn gather(&mut self) -> Option<Group> {
        let mut group = Group { commands: Vec::new(), replies: Vec::new(), how: How::Append };
        let mut size = 0;
        let Some(first) = self.first().await? else { return Some(group) };
        let until = self.replica.env.clock.now() + LINGER;
        let mut next = Some(first);
        while let Some(proposal) = next {
            match proposal {
                Proposal::Command(command, reply) => {
                    let more = estimate(&command);
                    if size + more > ENTRY_TARGET_BYTES && !group.commands.is_empty() {
                        self.held = Some(Proposal::Command(command, reply));
                        break;
                    }
                    size += more;
                    group.commands.push(command);
                    group.replies.push(reply);
                }
                alone if !group.commands.is_empty() => {
                    self.held = Some(alone);
                    break;
                }
                Proposal::Publish(command, pointer, reply) => {
                    return Some(Group { commands: vec![command], replies: vec![reply], how: How::Publish(pointer) });
                }
                Proposal::End(victim, reply) => {
                    let commands = vec![Command::EndSession { nonce: victim.nonce }];
                    return Some(Group { commands, replies: vec![reply], how: How::End(victim) });
                }
                Proposal::Leave => return Some(self.farewell()),
            }
            next = if size < ENTRY_TARGET_BYTES { self.another(&group, until).await } else { None };
        }
        Some(group)
    }

    /// What else goes into the entry: what is there, and while the entry has nothing but offset commits what comes
    /// until `until`. Neither a proposal of another kind nor a wish for numbers waits for that.
    async fn another(&mut self, group: &Group, until: Instant) -> Option<Proposal> {
        let there = self.proposals.try_recv().ok();
        if there.is_some() || !group.commands.iter().all(lingers) {
            return there;
        }
        tokio::select! {
            biased;
            proposal = self.proposals.recv() => proposal,
            () = self.replica.numbers.wanted() => None,
            () = sleep_until(until) => None,
        }
    }

    /// `Some(None)`: an entry is wanted for its reservations alone.
    async fn first(&mut self) -> Option<Option<Proposal>> {
        if let Some(held) = self.held.take() {
            return Some(Some(held));
        }
        tokio::select! {
            biased;
            proposal = self.proposals.recv() => proposal.map(Some),
            () = self.replica.numbers.wanted() => Some(None),
        }
    }

    fn farewell(&self) -> Group {
        Group {
            commands: vec![Command::EndSession { nonce: self.replica.nonce }],
            replies: Vec::new(),
            how: How::Leave,
        }
    }

    async fn write(&mut self, group: Group) -> Result<Written, End> {
        let (plan, low) = self.replica.numbers.plan();
        if group.commands.is_empty() && plan.is_empty() {
            return Ok(Written::Committed);
        }
        let entry = self.entry(plan.clone(), low, group.commands);
        self.replica.pending.lock().register(self.n, group.replies);
        let (begun, bytes) = (self.replica.env.clock.now(), entry.len());
        match self.append(&group.how, entry).await {
            Ok(_position) => {
                self.replica.metrics.journal.appended(self.replica.env.clock.now() - begun, bytes);
                self.n += 1;
                self.replica.numbers.committed(&plan);
                Ok(Written::Committed)
            }
            Err(AppendError::Refused(why)) => {
                warn!(error = %why, "the journal refused an entry; its commands are refused");
                self.replica.pending.lock().refuse(self.n);
                Ok(Written::Refused)
            }
            Err(AppendError::Fenced) => Err(End::Fenced),
            Err(AppendError::Dead(why) | AppendError::Unknown(why)) => {
                error!(error = %why, "the journal has failed");
                Err(End::Failed(format!("the journal has failed ({why}); restart the broker")))
            }
        }
    }

    fn entry(&self, reserved: Vec<Reservation>, low: u32, commands: Vec<Command>) -> Bytes {
        let entry = Entry {
            feature_level: FEATURE_LEVEL,
            nonce: self.replica.nonce,
            n: self.n,
            time_ms: self.replica.env.clock.wall_ms(),
            reserved,
            low,
            commands,
        };
        entry.encode().into()
    }

    /// Appends until the outcome is known. `Refused` and `Fenced` mean "never written" only if no earlier attempt
    /// was unknown: after one that was, the waiters stay registered, and read "unknown" when the replica ends.
    async fn append(&self, how: &How, entry: Bytes) -> Result<Position, AppendError> {
        let mut maybe_written = false;
        loop {
            match self.attempt(how, entry.clone()).await {
                Err(AppendError::Unknown(why)) => {
                    maybe_written = true;
                    warn!(error = %why, n = self.n, "the journal did not say whether it has an entry; asking again");
                }
                Err(AppendError::Refused(_)) if maybe_written => {}
                Err(AppendError::Fenced) => {
                    if !maybe_written {
                        self.replica.pending.lock().refuse(self.n);
                    }
                    return Err(AppendError::Fenced);
                }
                known => return known,
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn attempt(&self, how: &How, entry: Bytes) -> Result<Position, AppendError> {
        let (journal, nonce) = (&self.replica.order.journal, self.replica.nonce);
        match how {
            How::Append => journal.append(nonce, self.n, entry).await,
            How::Publish(pointer) => journal.publish(nonce, self.n, entry, pointer.clone()).await,
            How::End(victim) => match &self.replica.order.sessions {
                Some(sessions) => sessions.end_other(nonce, self.n, entry, *victim).await,
                None => journal.append(nonce, self.n, entry).await,
            },
            How::Leave => journal.leave(nonce, self.n, entry).await,
        }
    }
}

fn lingers(command: &Command) -> bool {
    matches!(command, Command::CommitOffsets(_))
}

/// About how many bytes a command adds to an entry; an upper bound for the large ones.
fn estimate(command: &Command) -> usize {
    match command {
        Command::CommitBundle(bundle) => {
            let batches: usize = bundle.runs.iter().map(|run| run.batches.len()).sum();
            bundle.runs.len() * 32 + batches * 24
        }
        Command::CreateTopic(topic) => {
            64 + topic.name.len()
                + topic.configs.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
        }
        Command::ExpireProducers { idle } => idle.len() * 16,
        Command::CompleteJoin(join) => 128 + join.group.len() + join.members.iter().map(estimate_member).sum::<usize>(),
        Command::CompleteSync(sync) => {
            let given = sync.assignments.iter().map(|(member, bytes)| member.len() + bytes.len() + 16);
            64 + sync.group.len() + given.sum::<usize>()
        }
        Command::ReplaceMember(replace) => 128 + replace.group.len() + estimate_member(&replace.new),
        Command::CommitOffsets(commit) => {
            let offsets = commit.offsets.iter().map(|offset| 40 + offset.metadata.len());
            64 + commit.group.len() + commit.member.len() + offsets.sum::<usize>()
        }
        Command::DeleteOffsets { group, partitions } => 64 + group.len() + partitions.len() * 24,
        Command::ExpireOffsets { group, offsets, .. } => 64 + group.len() + offsets.len() * 36,
        Command::DeleteGroup { group } => 16 + group.len(),
        Command::OpenSession(_)
        | Command::EndSession { .. }
        | Command::SetReady { .. }
        | Command::DeleteTopic { .. }
        | Command::AllocateProducerIds { .. }
        | Command::AddPartitions { .. }
        | Command::PublishSnapshot { .. } => 64,
    }
}

fn estimate_member(member: &GroupMember) -> usize {
    let texts = member.id.len() + member.instance.as_ref().map_or(0, String::len);
    64 + texts + member.client_id.len() + member.client_host.len() + member.subscription.len()
}
