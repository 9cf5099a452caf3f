//! What operators see of a group: its stage in Kafka's words and its members, as they are in memory.

use bytes::Bytes;
use kafscale_metadata::MemberId;

/// Kafka's names of a classic group's states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StageName {
    /// No members.
    Empty,
    /// Members join.
    PreparingRebalance,
    /// The leader assigns.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
}

impl StageName {
    /// All of them, for metrics.
    pub const ALL: [Self; 4] = [Self::Empty, Self::PreparingRebalance, Self::CompletingRebalance, Self::Stable];

    /// As DescribeGroups and ListGroups say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A group, for DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Where it is.
    pub stage: StageName,
    /// Its generation.
    pub generation: i32,
    /// "consumer", …; empty if it never had members.
    pub protocol_type: String,
    /// The chosen protocol, if it is stable; else empty.
    pub protocol: String,
    /// Its members, by id.
    pub members: Vec<DescribedMember>,
}

/// A member, for DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: MemberId,
    /// Its static instance id.
    pub instance: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its metadata for the chosen protocol, if the group is stable; else empty.
    pub subscription: Bytes,
    /// What it was assigned, if the group is stable; else empty.
    pub assignment: Bytes,
}

/// A group, for ListGroups and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its id.
    pub group: &'a str,
    /// Where it is.
    pub stage: StageName,
    /// As in [`Description::protocol_type`].
    pub protocol_type: &'a str,
    /// How many members it has.
    pub members: usize,
}
