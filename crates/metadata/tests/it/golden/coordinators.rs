//! The entries of the journal of feature level 3: sessions that become ready and withdraw, and groups that move with
//! them.

use std::collections::BTreeMap;

use kafscale_metadata::{Command, Entry};

use super::groups::{Groups, command};
use super::{create, opening, plain};
use crate::encoding::Numbers;

pub(super) const ENTRIES: usize = 481;

/// So many entries long most that is said of groups comes from one session.
const STRETCH: usize = 40;

/// Three brokers take turns, one of them restarts, and each says something out of turn. Must never change.
pub(super) fn entries() -> Vec<Entry> {
    let mut numbers = Numbers(11);
    let mut groups = Groups::new();
    let mut entries = vec![opening(11, 1), opening(12, 2), opening(13, 3)];
    entries[0].commands.push(create(1, "orders", 3));
    entries[0].commands.push(create(2, "clicks.v2", 2));
    let mut next_n = BTreeMap::from([(11, 1), (12, 1), (13, 1), (14, 0)]);
    let mut sessions = [11, 12, 13];
    while entries.len() < ENTRIES {
        let at = entries.len();
        let stretch = at / STRETCH;
        if at == 6 * STRETCH {
            sessions[0] = 14;
        }
        let turn = sessions[stretch % 3];
        let out_of_turn = numbers.below(10) == 0;
        let nonce = match (at % STRETCH, out_of_turn) {
            (0, _) => sessions[(stretch + 2) % 3],
            (1, _) | (_, false) => turn,
            (_, true) => 11 + numbers.below(3),
        };
        let n = next_n.get_mut(&nonce).unwrap();
        let mut entry = if *n == 0 { opening(nonce, 1) } else { plain(nonce, *n) };
        *n += 1;
        entry.time_ms += at as i64 * 10;
        match at % STRETCH {
            // Every third time the one before stays ready, and they share the groups.
            0 if !stretch.is_multiple_of(3) => entry.commands.push(Command::SetReady { ready: false }),
            1 => entry.commands.push(Command::SetReady { ready: true }),
            _ => {}
        }
        for _ in 0..=numbers.below(3) {
            let command = command(&mut numbers, &mut groups, entry.time_ms);
            entry.commands.extend(command);
        }
        if at == ENTRIES - 20 {
            entry.commands.push(Command::EndSession { nonce: 12 });
        }
        entries.push(entry);
    }
    for entry in &mut entries {
        entry.feature_level = 3;
    }
    entries
}
