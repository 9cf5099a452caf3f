//! What a broker stands on: its journal and its object store, as the settings name them, opened, checked, and fit for each
//! other. Owns the order in which that happens, and for how long a store that does not answer is waited for; what the
//! two promise is theirs (`kafscale-journal`, `kafscale-log`).
//!
//! There is no way from here to a store that nobody named: what cannot be used ends the start, with a message.

use std::path::PathBuf;
use std::sync::Arc;

use kafscale_journal::file::{FileJournal, Limits as JournalLimits, StartError as JournalError};
use kafscale_log::store::s3::{CheckError, S3Settings, S3Store, TlsError};
use kafscale_log::store::{DirectoryStore, ObjectStore};
use kafscale_ports::{Disk, Env};
use tokio::time::sleep;
use tracing::warn;

use crate::config::{DataDir, DataDirError, Identity, Objects, ObjectsIn, Places};
use crate::limits::{STORE_PATIENCE, STORE_RETRY};
use crate::metrics::Metrics;
use crate::timed::Timed;

/// Journal and store, and whose they are.
pub(crate) struct Storage {
    pub(crate) journal: Arc<FileJournal>,
    /// Measured.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The store, if it is one that can be damaged here.
    directory: Option<Arc<DirectoryStore>>,
    data_dir: DataDir,
}

/// Why a broker has nothing to stand on.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal in it cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The directory's journal refers to objects that are somewhere else.
    #[error("{} {holds}: {fix}", path.display())]
    OtherObjects {
        /// The directory.
        path: PathBuf,
        /// Where its objects are.
        holds: &'static str,
        /// How to start.
        fix: String,
    },
    /// The bucket cannot be reached by anybody.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The bucket cannot be used.
    #[error(transparent)]
    Bucket(#[from] CheckError),
}

impl Storage {
    /// Opens both.
    ///
    /// # Errors
    /// What cannot be used, and what to do.
    pub(crate) async fn open(
        places: &Places,
        (env, disk, metrics): (&Env, &Arc<dyn Disk>, &Arc<Metrics>),
        limits: JournalLimits,
    ) -> Result<Self, StorageError> {
        let objects = match places.objects {
            Objects::Directory => ObjectsIn::Directory,
            Objects::S3(_) => ObjectsIn::Bucket,
        };
        let data_dir = DataDir::open(&**disk, &*env.random, &places.directory, objects).await?;
        fits(places, data_dir.identity().objects, objects)?;
        let (store, directory): (Arc<dyn ObjectStore>, _) = match &places.objects {
            Objects::Directory => {
                let inner = Arc::new(DirectoryStore::new(Arc::clone(disk), data_dir.objects()));
                (Arc::new(timed(env, &inner, metrics)), Some(inner))
            }
            Objects::S3(settings) => {
                let inner = Arc::new(bucket(env, (**settings).clone(), data_dir.identity().cluster).await?);
                (Arc::new(timed(env, &inner, metrics)), None)
            }
        };
        let incarnation = env.random.u128();
        let journal = FileJournal::start_with(Arc::clone(disk), data_dir.journal(), incarnation, limits).await?;
        Ok(Self { journal: Arc::new(journal), store, directory, data_dir })
    }

    /// Whose they are.
    pub(crate) fn identity(&self) -> Identity {
        self.data_dir.identity()
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

fn timed<S>(env: &Env, store: &Arc<S>, metrics: &Arc<Metrics>) -> Timed<S> {
    Timed { inner: Arc::clone(store), clock: Arc::clone(&env.clock), metrics: Arc::clone(metrics) }
}

/// Whether the directory's journal refers to objects where the settings say they are.
fn fits(places: &Places, are: ObjectsIn, said: ObjectsIn) -> Result<(), StorageError> {
    let path = places.directory.clone();
    let shown = path.display();
    let (holds, fix) = match (are, said) {
        (ObjectsIn::Directory, ObjectsIn::Directory) | (ObjectsIn::Bucket, ObjectsIn::Bucket) => return Ok(()),
        (ObjectsIn::Directory, ObjectsIn::Bucket) => (
            "holds its records itself, not in a bucket",
            format!("start it with --data-dir {shown}, or choose another directory for --journal"),
        ),
        (ObjectsIn::Bucket, ObjectsIn::Directory) => (
            "is the journal of records that are in a bucket",
            format!("start it with --store s3://BUCKET/PREFIX --journal file://{shown}"),
        ),
    };
    Err(StorageError::OtherObjects { path, holds, fix })
}

/// The bucket, once it has passed every check and belongs to `cluster`. One that does not answer is asked again for a while.
async fn bucket(env: &Env, settings: S3Settings, cluster: u128) -> Result<S3Store, StorageError> {
    let store = S3Store::new(settings, env.clone())?;
    let begun = env.clock.now();
    loop {
        let checked = match store.check().await {
            Ok(()) => store.claim(cluster).await,
            failed => failed,
        };
        match checked {
            Ok(()) => return Ok(store),
            Err(error) if error.may_pass_later() && env.clock.now() - begun < STORE_PATIENCE => {
                warn!(%error, "the bucket cannot be used yet; asked again in {STORE_RETRY:?}");
                sleep(STORE_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
