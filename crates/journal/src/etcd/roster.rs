//! The live sessions of all brokers, as etcd has them. Owns what is known of them, and when it must be read anew: a look
//! at the head brings each session's fence, and a fence stands for everything else, since only an opening writes S.

use bytes::Bytes;

use super::keys::Names;
use super::kv::{KeyValue, Revision};
use super::stored::StoredSession;
use crate::Identity;
use crate::sessions::LiveSession;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Roster {
    /// By broker id.
    live: Vec<Live>,
    /// The revision at which they were read; 0: never.
    at: Revision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Live {
    broker_id: i32,
    fence: Revision,
    session: StoredSession,
}

impl Roster {
    /// Whether these fences, seen at revision `at`, are others than the known ones.
    pub(super) fn differs(&self, fences: &[(i32, Revision)], at: Revision) -> bool {
        at > self.at && !self.live.iter().map(|live| (live.broker_id, live.fence)).eq(fences.iter().copied())
    }

    /// They were read at revision `at`. False: older news than what is known.
    pub(super) fn read(&mut self, names: &Names, kvs: &[KeyValue], at: Revision) -> bool {
        if at < self.at {
            return false;
        }
        let live = |kv: &KeyValue| {
            let broker_id = names.read_session(&kv.key)?;
            // One that cannot be read has a newer format; it lives all the same.
            let unread = StoredSession { nonce: 0, token: 0, opening: Bytes::new() };
            let session = StoredSession::decode(&kv.value).unwrap_or(unread);
            Some(Live { broker_id, fence: kv.mod_revision, session })
        };
        self.live = kvs.iter().filter_map(live).collect();
        self.at = at;
        true
    }

    pub(super) fn sessions(&self) -> Vec<LiveSession> {
        let session = |live: &Live| LiveSession {
            identity: Identity { broker_id: live.broker_id, token: live.session.token },
            nonce: live.session.nonce,
            opening: live.session.opening.clone(),
        };
        self.live.iter().map(session).collect()
    }
}
