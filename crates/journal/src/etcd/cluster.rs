//! Whose etcd it is: one key, `{root}/cluster`, with the id of the cluster whose journal is under the same root. Owns that
//! key. It is written once, by the first broker of the cluster, before there is a journal; a bucket says the same by an
//! object, and a broker that finds two clusters starts neither.

use std::sync::Arc;

use bytes::Bytes;

use super::keys::Names;
use super::kv::{Compare, Get, Is, Keys, Kv, Op, Target, Txn, TxnReply};
use super::limited::Limited;
use super::shared::failed;
use super::{Settings, txns};
use crate::ReadError;

/// What is found under a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub cluster: u128,
    /// Whether its journal has entries.
    pub is_begun: bool,
}

/// Whose journal is under the root, linearizably; none if nobody's.
pub async fn find(kv: Arc<dyn Kv>, settings: &Settings) -> Result<Option<Found>, ReadError> {
    let names = Names::new(&settings.root);
    let txn = Txn { then: look(&names), ..Txn::default() };
    let reply = Limited::new(kv, settings.call_timeout).txn(txn).await.map_err(failed)?;
    read(&names, &reply)
}

/// Takes the root for `cluster` unless it is taken. Returns what is there then; may be repeated.
pub async fn claim(kv: Arc<dyn Kv>, settings: &Settings, cluster: u128) -> Result<Found, ReadError> {
    let names = Names::new(&settings.root);
    let txn = Txn {
        when: vec![Compare { keys: Keys::One(names.cluster()), is: Is::Equal, target: Target::Create(0) }],
        then: vec![Op::Put { key: names.cluster(), value: words(cluster), lease: 0 }],
        otherwise: look(&names),
    };
    let reply = Limited::new(kv, settings.call_timeout).txn(txn).await.map_err(failed)?;
    if reply.succeeded {
        return Ok(Found { cluster, is_begun: false });
    }
    read(&names, &reply)?.ok_or_else(|| unreadable(&names))
}

fn look(names: &Names) -> Vec<Op> {
    vec![Op::Get(Get::one(names.cluster())), Op::Get(Get::one(names.head()))]
}

fn read(names: &Names, reply: &TxnReply) -> Result<Option<Found>, ReadError> {
    let Some(kv) = txns::all(reply.results.first()).first() else { return Ok(None) };
    let cluster = std::str::from_utf8(&kv.value).ok().and_then(|text| u128::from_str_radix(text, 16).ok());
    let cluster = cluster.ok_or_else(|| unreadable(names))?;
    Ok(Some(Found { cluster, is_begun: !txns::all(reply.results.get(1)).is_empty() }))
}

fn words(cluster: u128) -> Bytes {
    format!("{cluster:032x}").into()
}

fn unreadable(names: &Names) -> ReadError {
    let key = names.cluster();
    let key = String::from_utf8_lossy(&key);
    ReadError::Damaged { detail: format!("etcd's key {key} is not a cluster's id; choose another prefix") }
}

#[cfg(test)]
mod tests {
    use kafscale_ports::Env;

    use super::super::model::World;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_claim_stands() {
        let kv: Arc<dyn Kv> = Arc::new(World::new(Env::real().clock).client(()));
        let kv = || Arc::clone(&kv);
        let settings = Settings::new("root");
        assert_eq!(find(kv(), &settings).await.unwrap(), None);
        let first = Found { cluster: 0xabc, is_begun: false };
        assert_eq!(claim(kv(), &settings, 0xabc).await.unwrap(), first);
        assert_eq!(claim(kv(), &settings, 7).await.unwrap(), first);
        assert_eq!(find(kv(), &settings).await.unwrap(), Some(first));
        assert_eq!(find(kv(), &Settings::new("other")).await.unwrap(), None);
    }
}
