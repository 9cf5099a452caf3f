//! What was asked of and told by the coordinator of groups: every request of every member, committer, keeper and
//! observer, with when it was asked and what became of it. Owns no judgement.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::trace::Trace;

/// Why a member asks to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The coordinator told it to, or it does not know whether an earlier attempt succeeded.
    Told,
    /// It wants something else than before: other topics, new partitions, to give something up.
    Own,
    /// It is not a member, as far as it knows.
    New,
}

/// Who asks, as the request says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Who {
    /// The member id; empty if it has none.
    pub member: String,
    /// The instance id.
    pub instance: Option<String>,
    /// The generation; -1 without one.
    pub generation: i32,
}

/// One partition's part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPart {
    /// The topic's name.
    pub topic: String,
    /// Its id, if the request named it by id; else 0.
    pub topic_id: u128,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
    /// What the client remembers with it.
    pub metadata: String,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// To take part in the next generation.
    Join {
        /// See [`Cause`].
        cause: Cause,
        /// Name and subscription of each protocol.
        protocols: Vec<(String, Bytes)>,
        /// Without a sign of life for so long it is out.
        session_timeout_ms: i32,
        /// It comes back within this when a generation is formed.
        rebalance_timeout_ms: i32,
    },
    /// The assignment; from the leader with everybody's.
    Sync {
        /// By member id.
        assignments: Vec<(String, Bytes)>,
    },
    /// A sign of life.
    Heartbeat,
    /// Members leave: id and instance of each.
    Leave(Vec<(String, Option<String>)>),
    /// Offsets are committed.
    Commit(Vec<CommitPart>),
    /// Committed offsets of these partitions; `None`: of all.
    Offsets(Option<Vec<(String, u32)>>),
    /// The group is deleted.
    DeleteGroup,
    /// Offsets are deleted.
    DeleteOffsets(Vec<(String, u32)>),
}

impl What {
    /// For the table of coverage.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Sync { .. } => "sync",
            Self::Heartbeat => "heartbeat",
            Self::Leave(_) => "leave",
            Self::Commit(_) => "offset commit",
            Self::Offsets(_) => "offset fetch",
            Self::DeleteGroup | Self::DeleteOffsets(_) => "deletion",
        }
    }
}

/// A committed offset as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetTold {
    /// The topic's name.
    pub topic: String,
    /// Its id, if the answer named it by id; else 0.
    pub topic_id: u128,
    /// The partition.
    pub partition: u32,
    /// The offset; -1 for none.
    pub offset: i64,
    /// What was committed with it.
    pub metadata: String,
    /// An error.
    pub code: i16,
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A code, and nothing more that matters.
    Code(i16),
    /// It is to come back with this member id.
    Named(String),
    /// A generation has begun.
    Joined {
        /// Which.
        generation: i32,
        /// What the members agreed on.
        protocol: String,
        /// Who assigns.
        leader: String,
        /// The member's id from now on.
        member: String,
        /// The leader has nothing to assign.
        skips: bool,
        /// For the leader: id, instance and subscription of each.
        members: Vec<(String, Option<String>, Bytes)>,
    },
    /// The member's assignment.
    Synced(Bytes),
    /// One code for each part.
    Each(Vec<i16>),
    /// Committed offsets.
    Offsets(Vec<OffsetTold>),
}

impl Told {
    /// Whether the request was granted; in several parts: any of them.
    pub fn is_ok(&self) -> bool {
        match self {
            Self::Code(code) => *code == 0,
            Self::Each(codes) => codes.contains(&0),
            Self::Named(_) => false,
            Self::Joined { .. } | Self::Synced(_) | Self::Offsets(_) => true,
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing, yet.
    Open,
    /// Its connection was lost or given up, at this time: nobody knows.
    Lost(u64),
    /// It was answered, at this time.
    Told(u64, Told),
}

/// A request about a group.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which client, by name.
    pub client: String,
    /// On which of all connections to coordinators: requests of one are in order.
    pub link: u64,
    /// The group.
    pub group: String,
    /// Who asks.
    pub who: Who,
    /// What.
    pub what: What,
    /// When.
    pub asked_ms: u64,
    /// What became of it.
    pub reply: Reply,
}

impl Asked {
    /// What it was told, and when.
    pub fn told(&self) -> Option<(u64, &Told)> {
        match &self.reply {
            Reply::Told(at_ms, told) => Some((*at_ms, told)),
            Reply::Open | Reply::Lost(_) => None,
        }
    }

    /// When the client stopped waiting; `None`: it waits still.
    pub fn over_ms(&self) -> Option<u64> {
        match self.reply {
            Reply::Open => None,
            Reply::Lost(at_ms) | Reply::Told(at_ms, _) => Some(at_ms),
        }
    }
}

/// Offsets of one partition that a group has read: disjoint ranges, in order.
pub type Ranges = Vec<Range<i64>>;

/// See the module's documentation.
pub struct GroupHistory {
    trace: Trace,
    /// All requests, in the order in which they were asked.
    pub asked: Vec<Asked>,
    /// What each group's members read: group, topic, partition.
    pub read: BTreeMap<(String, String, u32), Ranges>,
    /// When each life of the broker began to serve.
    pub served_ms: Vec<u64>,
    /// The connections to coordinators so far.
    links: u64,
    /// Marks that were given to commits.
    marks: u64,
}

impl GroupHistory {
    /// Nothing was asked.
    pub fn new(trace: Trace) -> Self {
        let (asked, read, served_ms) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { trace, asked, read, served_ms, links: 0, marks: 0 }
    }

    /// A number for a connection.
    pub fn link(&mut self) -> u64 {
        self.links += 1;
        self.links
    }

    /// Something to remember with a commit that no other commit has.
    pub fn mark(&mut self) -> String {
        self.marks += 1;
        format!("mark {}", self.marks)
    }

    /// A request goes out; its index.
    pub fn ask(&mut self, asked: Asked) -> usize {
        self.asked.push(asked);
        self.asked.len() - 1
    }

    /// It is answered.
    pub fn tell(&mut self, index: usize, told: Told, now_ms: u64) {
        let asked = &mut self.asked[index];
        let interesting = !matches!((&asked.what, &told), (What::Heartbeat, Told::Code(0)));
        if interesting {
            let (client, group, what) = (&asked.client, &asked.group, asked.what.name());
            self.trace.line(format_args!("{client}, {what} in {group} by {:?}: {told:?}", asked.who));
        }
        asked.reply = Reply::Told(now_ms, told);
    }

    /// Whether a request of this kind is under way.
    pub fn is_open(&self, kind: &str) -> bool {
        let recent = self.asked.iter().rev().take(100);
        recent.into_iter().any(|asked| asked.reply == Reply::Open && asked.what.name() == kind)
    }

    /// It will not be answered any more.
    pub fn lose(&mut self, index: usize, now_ms: u64) {
        if self.asked[index].reply == Reply::Open {
            self.asked[index].reply = Reply::Lost(now_ms);
        }
    }

    /// A member read these offsets.
    pub fn read(&mut self, group: &str, partition: &(String, u32), range: Range<i64>) {
        if range.is_empty() {
            return;
        }
        let ranges = self.read.entry((group.to_owned(), partition.0.clone(), partition.1)).or_default();
        let mut merged = range;
        ranges.retain(|other| {
            let apart = other.end < merged.start || merged.end < other.start;
            if !apart {
                merged = merged.start.min(other.start)..merged.end.max(other.end);
            }
            apart
        });
        let at = ranges.partition_point(|other| other.start < merged.start);
        ranges.insert(at, merged);
    }
}
