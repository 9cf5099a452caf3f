//! What members of a group and those around it do: drawn by the scenario, carried out by the other files. Pure.

use super::assign::Assignor;

/// The versions of the requests of one kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// FindCoordinator.
    pub find: i16,
    /// JoinGroup.
    pub join: i16,
    /// SyncGroup.
    pub sync: i16,
    /// Heartbeat.
    pub heartbeat: i16,
    /// LeaveGroup.
    pub leave: i16,
    /// OffsetCommit.
    pub commit: i16,
    /// OffsetFetch.
    pub offsets: i16,
    /// Fetch.
    pub fetch: i16,
    /// The subscription.
    pub subscription: i16,
}

impl Versions {
    /// From the oldest to the newest; what clients of today send is in between.
    pub const ALL: [Self; 7] = [
        Self { find: 0, join: 0, sync: 0, heartbeat: 0, leave: 0, commit: 2, offsets: 1, fetch: 4, subscription: 0 },
        Self { find: 1, join: 2, sync: 1, heartbeat: 1, leave: 1, commit: 3, offsets: 3, fetch: 7, subscription: 0 },
        Self { find: 2, join: 3, sync: 2, heartbeat: 2, leave: 2, commit: 6, offsets: 5, fetch: 11, subscription: 1 },
        Self { find: 2, join: 5, sync: 3, heartbeat: 3, leave: 1, commit: 7, offsets: 7, fetch: 11, subscription: 1 },
        Self { find: 3, join: 7, sync: 5, heartbeat: 4, leave: 4, commit: 8, offsets: 8, fetch: 12, subscription: 2 },
        Self { find: 6, join: 9, sync: 5, heartbeat: 4, leave: 5, commit: 9, offsets: 9, fetch: 18, subscription: 3 },
        Self { find: 6, join: 9, sync: 5, heartbeat: 4, leave: 5, commit: 10, offsets: 10, fetch: 18, subscription: 3 },
    ];

    /// Whether such a client can be a static member (KIP-345).
    pub fn has_instances(self) -> bool {
        self.join >= 5 && self.sync >= 3 && self.heartbeat >= 3 && self.commit >= 7
    }
}

/// When a member does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// It begins so late.
    pub first_ms: u64,
    /// Without a sign of life for so long it is out.
    pub session_timeout_ms: i32,
    /// It comes back within this when a generation is formed.
    pub rebalance_timeout_ms: i32,
    /// Time between signs of life.
    pub heartbeat_ms: u64,
    /// Time between commits.
    pub commit_ms: u64,
    /// How long a fetch waits.
    pub max_wait_ms: i32,
}

/// How a member commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commits {
    /// Each with a mark of its own: no two are equal. Else progress that is none is committed again and again.
    pub marked: bool,
    /// It reads on only when its commit is answered.
    pub sync: bool,
    /// In a hundred: it goes back, and at once commits again what it had committed last, without waiting.
    pub back_percent: u64,
}

/// Something that befalls a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Episode {
    /// It is gone without a word, and comes back so much later as a new process, or never.
    Crash {
        /// See above.
        down_ms: Option<u64>,
    },
    /// It stands still, and then goes on as if nothing had been.
    Hang {
        /// How long.
        ms: u64,
    },
    /// It leaves, and comes back so much later, or never.
    Leave {
        /// See above.
        away_ms: Option<u64>,
    },
    /// A second process with the same instance id.
    Double,
    /// It wants these topics from now on.
    Subscribe(Vec<String>),
    /// It is alive, but too busy to join anything.
    Dawdle {
        /// How long.
        ms: u64,
    },
    /// It loses its connections.
    Reconnect,
}

/// What a member does.
#[derive(Debug, Clone)]
pub struct MemberPlan {
    /// Its name in the world.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its instance id, if it is a static member.
    pub instance: Option<String>,
    /// What it reads.
    pub topics: Vec<String>,
    /// What it can be assigned by, the dearest first.
    pub assignors: Vec<Assignor>,
    /// As which kind of client.
    pub versions: Versions,
    /// When it does what.
    pub pace: Pace,
    /// How it commits.
    pub commits: Commits,
    /// Each so many milliseconds after the one before.
    pub episodes: Vec<(u64, Episode)>,
}

impl MemberPlan {
    /// Whether it gives everything up before it joins, as all did before KIP-429.
    pub fn is_eager(&self) -> bool {
        self.assignors != [Assignor::CooperativeSticky]
    }
}

/// A client that reads and commits offsets of a group in which it is not.
#[derive(Debug, Clone)]
pub struct OutsiderPlan {
    /// Its name in the world.
    pub name: String,
    /// The group.
    pub group: String,
    /// Topics of the group.
    pub topics: Vec<String>,
    /// As which kind of client.
    pub versions: Versions,
    /// How often.
    pub every_ms: u64,
    /// It commits too, with generation -1.
    pub commits: bool,
}

/// What is done to a group from the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It is deleted.
    DeleteGroup,
    /// Its offsets of a topic are deleted.
    DeleteOffsets(String),
    /// A topic gets more partitions.
    AddPartitions(String, u32),
    /// A static member is removed.
    Remove(String),
}

/// A group and everybody around it.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// Its members.
    pub members: Vec<MemberPlan>,
    /// Who else reads and commits its offsets.
    pub outsiders: Vec<OutsiderPlan>,
    /// What is done to it, each so many milliseconds after the one before.
    pub deeds: Vec<(u64, Deed)>,
}

impl GroupPlan {
    /// How much befalls it, or the member that it befalls most.
    pub fn longest(&self) -> usize {
        self.members.iter().map(|member| member.episodes.len()).chain([self.deeds.len()]).max().unwrap_or(0)
    }

    /// Whether what is committed was read by its members: nobody else commits.
    pub fn is_closed(&self) -> bool {
        self.outsiders.iter().all(|outsider| !outsider.commits)
    }
}
