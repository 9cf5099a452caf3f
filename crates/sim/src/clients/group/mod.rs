//! Consumer groups, from the clients' side: members that join, assign, read and commit as Kafka's clients do, and what
//! befalls them; those who commit or look from the outside; and a referee for each group, who says when it has settled.
//!
//! Reading order: [`plan`] (who does what), [`protocol`] and [`assign`] (what members tell each other), [`messages`]
//! and [`desk`] (how they ask the coordinator), [`member`] with [`reader`], [`life`], [`outsider`], [`keeper`], [`referee`].

pub mod assign;
pub mod desk;
pub mod keeper;
pub mod life;
pub mod member;
pub mod messages;
pub mod outsider;
pub mod plan;
pub mod protocol;
pub mod reader;
pub mod referee;

use std::collections::{BTreeMap, BTreeSet};

use self::protocol::Partition;

/// A living member, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its member id; empty if it has none.
    pub member: String,
    /// Its generation.
    pub generation: i32,
    /// It has an assignment and nothing else to do than to read.
    pub settled: bool,
    /// What it wants.
    pub topics: Vec<String>,
    /// What it has.
    pub assigned: BTreeSet<Partition>,
}

/// What a group waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The check that is broken if this does not come.
    pub check: &'static str,
    /// What it is.
    pub what: String,
}

/// What the clients of a world know of each other's groups, outside of any protocol. For the referees.
#[derive(Debug, Default)]
pub struct Board {
    /// The living members by group and name.
    pub standings: BTreeMap<(String, String), Standing>,
    /// The groups whose members may go.
    pub over: BTreeSet<String>,
    /// How often the members of a group have been asked to join again.
    pub nudges: BTreeMap<String, u32>,
    /// What each group that has not settled was waiting for, when its referee looked last.
    pub reasons: BTreeMap<String, Reason>,
}

impl Board {
    /// The living members of a group.
    pub fn of(&self, group: &str) -> impl Iterator<Item = &Standing> {
        let from = (group.to_owned(), String::new());
        self.standings.range(from..).take_while(move |((of, _), _)| of == group).map(|(_, standing)| standing)
    }
}
