//! Several brokers: the journal in etcd, the records in a bucket. Owns how the two are found to belong together, and what
//! is said when they do not.
//!
//! The first broker of a cluster makes its id and writes it first into etcd, then into the bucket; so a bucket that names
//! a cluster which etcd does not know says that etcd has lost it, or that one of the two addresses is wrong. Nothing is
//! written into either then.
//!
//! The bucket's snapshots are listed before the journal's head is read: one that is beyond the head says that etcd went
//! back in time (a restored backup), whose brokers would give offsets a second time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafscale_journal::ReadError;
use kafscale_journal::etcd::client::{Config, ConfigError, Etcd, Tls};
use kafscale_journal::etcd::cluster::{Found, claim, find};
use kafscale_journal::etcd::kv::Kv;
use kafscale_journal::etcd::quota::{DEFAULT_QUOTA, Watchman};
use kafscale_journal::etcd::{EtcdJournal, Settings as JournalSettings};
use kafscale_journal::{Journal, sessions::Sessions};
use kafscale_log::store::s3::{S3Settings, S3Store};
use kafscale_log::store::{Folder, ObjectName, ObjectStore, list_all};
use kafscale_ports::disk::OpenMode;
use kafscale_ports::{Disk, Env};
use tokio::time::sleep;
use tracing::warn;

use super::{BucketError, Storage, StorageError, Whose, bucket};
use crate::config::{EtcdSettings, TlsFiles};
use crate::limits::{STORE_PATIENCE, STORE_RETRY};

/// Certificates and keys are smaller.
const MAX_PEM_BYTES: usize = 1 << 20;

/// Why etcd cannot be used, or not with this bucket.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The addresses or certificates are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate or key cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody answers as a member of etcd does.
    #[error("the journal in etcd at {endpoints} cannot be used: {said}")]
    Etcd {
        /// Where.
        endpoints: String,
        /// What happened.
        said: String,
    },
    /// One of the two is of another cluster, or has lost it.
    #[error("{0}")]
    Apart(String),
    /// The bucket knows more than the journal does.
    #[error(
        "etcd at {endpoints} went back in time: the bucket has a snapshot of entry {snapshot}, and the journal ends at entry {end}; stop all brokers, give etcd its newer data, or run `kafscale recover`"
    )]
    WentBack {
        /// Where.
        endpoints: String,
        /// The newest snapshot's last entry.
        snapshot: u64,
        /// The journal's last entry.
        end: u64,
    },
}

pub(super) async fn open(
    etcd: &EtcdSettings,
    (s3, replica): (&S3Settings, Option<&S3Settings>),
    env: &Env,
    disk: &Arc<dyn Disk>,
) -> Result<Storage, StorageError> {
    let client = Arc::new(client(etcd, disk).await?);
    let store = Arc::new(bucket::open(env, s3).await?);
    let ask = Asked { etcd, env, kv: Arc::<Etcd>::clone(&client), settings: JournalSettings::new(&etcd.root) };
    let cluster = ask.settle(&store).await?;
    let (names, _) = list_all(&*store, &Folder::snapshots(cluster)).await.map_err(BucketError::from)?;
    let journal = Arc::new(ask.start().await?);
    ask.did_not_go_back(&names, &journal).await?;
    let room = Watchman::start(client, Arc::clone(&ask.kv), env, &ask.settings, DEFAULT_QUOTA);
    let token = etcd.token.unwrap_or_else(|| env.random.u128());
    Ok(Storage {
        whose: Whose { cluster, incarnation: journal.incarnation(), token },
        journal: Arc::<EtcdJournal>::clone(&journal) as Arc<dyn Journal>,
        sessions: Some(journal as Arc<dyn Sessions>),
        store: Arc::<S3Store>::clone(&store) as Arc<dyn ObjectStore>,
        replica: bucket::replica(env, replica)?,
        lister: Some(store),
        files: None,
        directory: None,
        room: Some(room),
        _data_dir: None,
    })
}

async fn client(etcd: &EtcdSettings, disk: &Arc<dyn Disk>) -> Result<Etcd, ClusterError> {
    let tls = match &etcd.tls {
        Some(files) => Some(read_tls(files, disk).await?),
        None => None,
    };
    let config = Config { endpoints: etcd.endpoints.clone(), tls, user: etcd.user.clone() };
    Ok(Etcd::new(&config)?)
}

async fn read_tls(files: &TlsFiles, disk: &Arc<dyn Disk>) -> Result<Tls, ClusterError> {
    let client = match &files.client {
        Some((certificate, key)) => Some((read_pem(disk, certificate).await?, read_pem(disk, key).await?)),
        None => None,
    };
    Ok(Tls { ca: read_pem(disk, &files.authorities).await?, client, server_name: None })
}

async fn read_pem(disk: &Arc<dyn Disk>, path: &Path) -> Result<Vec<u8>, ClusterError> {
    let read = async { disk.open(path, OpenMode::Existing).await?.read_at(0, MAX_PEM_BYTES).await };
    let bytes = read.await.map_err(|source| ClusterError::Pem { path: path.to_owned(), source })?;
    Ok(bytes.to_vec())
}

/// The etcd that was named.
struct Asked<'a> {
    etcd: &'a EtcdSettings,
    env: &'a Env,
    kv: Arc<dyn Kv>,
    settings: JournalSettings,
}

/// What bucket and etcd say, taken together.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Settled(u128),
    /// A first start: nobody has the bucket yet. The id that is in etcd already, if one is.
    First,
    Apart(String),
}

impl Asked<'_> {
    /// The cluster that both belong to; a new one's id is written into both.
    async fn settle(&self, store: &S3Store) -> Result<u128, StorageError> {
        let mut verdict = self.look(store).await?;
        if matches!(verdict, Verdict::Apart(_)) {
            // Another broker's first start may have gone on between the two questions.
            verdict = self.look(store).await?;
        }
        match verdict {
            Verdict::Settled(cluster) => Ok(cluster),
            Verdict::Apart(words) => Err(ClusterError::Apart(words).into()),
            Verdict::First => {
                let id = self.env.random.u128();
                let Found { cluster, .. } = self.patiently(|| claim(Arc::clone(&self.kv), &self.settings, id)).await?;
                bucket::patiently(self.env, || store.claim(cluster)).await.map_err(BucketError::from)?;
                Ok(cluster)
            }
        }
    }

    async fn look(&self, store: &S3Store) -> Result<Verdict, StorageError> {
        let bucket = bucket::patiently(self.env, || store.claimant()).await.map_err(BucketError::from)?;
        let etcd = self.patiently(|| find(Arc::clone(&self.kv), &self.settings)).await?;
        Ok(judge(bucket, etcd, &self.etcd.root))
    }

    async fn start(&self) -> Result<EtcdJournal, ClusterError> {
        let incarnation = self.env.random.u128();
        self.patiently(|| {
            EtcdJournal::start(Arc::clone(&self.kv), self.env.clone(), self.settings.clone(), incarnation)
        })
        .await
    }

    async fn did_not_go_back(&self, names: &[ObjectName], journal: &EtcdJournal) -> Result<(), ClusterError> {
        let of_this_life = names.iter().filter_map(|name| name.snapshot_of(journal.incarnation()));
        let Some(snapshot) = of_this_life.max() else { return Ok(()) };
        let end = self.patiently(|| journal.end()).await?.ordinal;
        if end >= snapshot {
            return Ok(());
        }
        Err(ClusterError::WentBack { endpoints: self.etcd.endpoints.join(","), snapshot, end })
    }

    /// Asks until it is answered, or the patience is at its end.
    async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, ReadError>>,
    {
        let begun = self.env.clock.now();
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(ReadError::Failed(why)) if self.env.clock.now() - begun < STORE_PATIENCE => {
                    let endpoints = self.etcd.endpoints.join(",");
                    warn!(%endpoints, error = %why, "etcd cannot be used yet; asked again in {STORE_RETRY:?}");
                    sleep(STORE_RETRY).await;
                }
                Err(error) => {
                    let said = match error {
                        ReadError::Failed(why) => why.to_string(),
                        other @ (ReadError::Damaged { .. } | ReadError::Truncated { .. }) => other.to_string(),
                    };
                    return Err(ClusterError::Etcd { endpoints: self.etcd.endpoints.join(","), said });
                }
            }
        }
    }
}

fn judge(bucket: Option<u128>, etcd: Option<Found>, root: &str) -> Verdict {
    match (bucket, etcd) {
        (Some(bucket), Some(Found { cluster, .. })) if bucket == cluster => Verdict::Settled(cluster),
        (Some(bucket), Some(Found { cluster, .. })) => Verdict::Apart(format!(
            "the bucket belongs to cluster {bucket:032x}, and etcd has cluster {cluster:032x} under {root}: one of --store and --journal is wrong"
        )),
        (Some(bucket), None) => Verdict::Apart(format!(
            "the bucket belongs to cluster {bucket:032x}, and etcd has no cluster under {root}: correct --journal, or, if etcd has lost its data, run `kafscale recover`"
        )),
        (None, Some(Found { cluster, is_begun: true })) => Verdict::Apart(format!(
            "etcd has the journal of cluster {cluster:032x} under {root}, and the bucket belongs to nobody: correct --store, or choose another prefix in --journal for a new cluster"
        )),
        (None, Some(Found { is_begun: false, .. }) | None) => Verdict::First,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_and_etcd_belong_together() {
        let found = |cluster, is_begun| Some(Found { cluster, is_begun });
        let is_apart = |bucket, etcd| matches!(judge(bucket, etcd, "r"), Verdict::Apart(_));
        assert_eq!(judge(None, None, "r"), Verdict::First);
        assert_eq!(judge(None, found(7, false), "r"), Verdict::First, "a first start was interrupted");
        assert_eq!(judge(Some(7), found(7, true), "r"), Verdict::Settled(7));
        assert_eq!(judge(Some(7), found(7, false), "r"), Verdict::Settled(7));
        assert!(is_apart(Some(7), None) && is_apart(Some(7), found(8, true)) && is_apart(None, found(7, true)));
    }
}
