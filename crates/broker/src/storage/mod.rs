//! What a broker stands on: its journal and its object store, as the settings name them, opened, checked, and fit for each
//! other. Owns the order in which that happens, and for how long what does not answer is waited for; what the two promise
//! is theirs (`kafscale-journal`, `kafscale-log`).
//!
//! There is no way from here to a store that nobody named: what cannot be used ends the start, with a message.

mod bucket;
mod cluster;
mod directory;

use std::sync::Arc;

use kafscale_journal::Journal;
use kafscale_journal::etcd::quota::{Room, Watchman};
use kafscale_journal::file::{FileJournal, Limits as JournalLimits, StartError as JournalError};
use kafscale_journal::sessions::Sessions;
use kafscale_log::store::s3::{CheckError, TlsError};
use kafscale_log::store::{DirectoryStore, ListError, ObjectLister, ObjectStore};
use kafscale_ports::{Disk, Env};
use tokio::sync::watch;

pub use self::cluster::ClusterError;
use crate::config::{DataDir, DataDirError, Objects, Order, Places};

/// Journal and store, and whose they are.
pub struct Storage {
    pub(crate) journal: Arc<dyn Journal>,
    /// The sessions of all brokers, if the journal is one of several.
    pub(crate) sessions: Option<Arc<dyn Sessions>>,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// A copy of the store that is read first.
    pub(crate) replica: Option<Arc<dyn ObjectStore>>,
    /// Lists the store's objects, if other brokers write some.
    pub(crate) lister: Option<Arc<dyn ObjectLister>>,
    pub(crate) whose: Whose,
    /// Of a journal on this machine: what it holds is measured.
    pub(crate) files: Option<Arc<FileJournal>>,
    /// The store, if it is one that can be damaged here.
    directory: Option<Arc<DirectoryStore>>,
    room: Option<Watchman>,
    /// The directory is locked for as long as this is there.
    _data_dir: Option<DataDir>,
}

/// Whose journal and store they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose {
    /// The cluster's id.
    pub cluster: u128,
    /// The journal's life.
    pub incarnation: u128,
    /// The identity token of this broker.
    pub token: u128,
}

/// Why a broker has nothing to stand on.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The bucket cannot be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// etcd cannot be used, or not with this bucket.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is not one of ours, or not free.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal in it cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its journal refers to objects that are somewhere else.
    #[error("{} {holds}: {fix}", path.display())]
    OtherObjects {
        /// The directory.
        path: std::path::PathBuf,
        /// Where its objects are.
        holds: &'static str,
        /// How to start.
        fix: String,
    },
}

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// It cannot be reached by anybody.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It is not there, or not fit.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Its snapshots cannot be listed.
    #[error("the bucket's snapshots could not be listed: {0}")]
    List(#[from] ListError),
}

impl Storage {
    /// Opens both.
    ///
    /// # Errors
    /// What cannot be used, and what to do.
    pub async fn open(
        places: &Places,
        (env, disk): (&Env, &Arc<dyn Disk>),
        limits: JournalLimits,
    ) -> Result<Self, StorageError> {
        match (&places.order, &places.objects) {
            (Order::Directory(path), objects) => directory::open(path, objects, (env, disk), limits).await,
            (Order::Etcd(etcd), Objects::S3(s3, replica)) => {
                cluster::open(etcd, (s3, replica.as_deref()), env, disk).await
            }
            (Order::Etcd(_), Objects::Directory) => {
                unreachable!("settings with etcd name a bucket: they are parsed so")
            }
        }
    }

    /// What a cluster stands on, from its parts: for whoever simulates one.
    pub fn of<J, S>(journal: Arc<J>, store: Arc<S>, whose: Whose) -> Self
    where
        J: Journal + Sessions,
        S: ObjectStore + ObjectLister,
    {
        Self {
            journal: Arc::<J>::clone(&journal),
            sessions: Some(journal),
            store: Arc::<S>::clone(&store),
            replica: None,
            lister: Some(store),
            whose,
            files: None,
            directory: None,
            room: None,
            _data_dir: None,
        }
    }

    /// Whether the journal has room for produce, as it changes; none if it has no bounds of its own.
    pub(crate) fn room(&self) -> Option<watch::Receiver<Room>> {
        self.room.as_ref().map(Watchman::room)
    }

    /// Ends once the store has been damaged so that it would refuse produce for ever. Holds nothing but the store: the
    /// directory is free for the next broker when the storage is dropped.
    pub(crate) fn wounded(&self) -> impl Future<Output = ()> + Send + use<> {
        let directory = self.directory.clone();
        async move {
            match directory {
                Some(directory) => directory.wounded().await,
                None => std::future::pending().await,
            }
        }
    }
}
