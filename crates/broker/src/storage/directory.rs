//! One broker, with its journal in a directory: and its records there too, or in a bucket. Owns which of the two a
//! directory is for.

use std::path::Path;
use std::sync::Arc;

use kafscale_journal::file::{FileJournal, Limits as JournalLimits};
use kafscale_log::store::{DirectoryStore, ObjectStore};
use kafscale_ports::{Disk, Env};

use super::{DirectoryError, Storage, StorageError, Whose, bucket};
use crate::config::{DataDir, Identity, Objects, ObjectsIn};

pub(super) async fn open(
    path: &Path,
    objects: &Objects,
    (env, disk): (&Env, &Arc<dyn Disk>),
    limits: JournalLimits,
) -> Result<Storage, StorageError> {
    let wanted = match objects {
        Objects::Directory => ObjectsIn::Directory,
        Objects::S3(..) => ObjectsIn::Bucket,
    };
    let data_dir = DataDir::open(&**disk, &*env.random, path, wanted).await.map_err(DirectoryError::from)?;
    let Identity { cluster, directory: token, objects: are } = data_dir.identity();
    fits(path, are, wanted)?;
    let mut replica = None;
    let (store, directory): (Arc<dyn ObjectStore>, _) = match objects {
        Objects::Directory => {
            let directory = Arc::new(DirectoryStore::new(Arc::clone(disk), data_dir.objects()));
            (Arc::<DirectoryStore>::clone(&directory), Some(directory))
        }
        Objects::S3(settings, copy) => {
            replica = bucket::replica(env, copy.as_deref())?;
            (Arc::new(bucket::open_claimed(env, settings, cluster).await?), None)
        }
    };
    let incarnation = env.random.u128();
    let journal = FileJournal::start_with(Arc::clone(disk), data_dir.journal(), incarnation, limits).await;
    let journal = Arc::new(journal.map_err(DirectoryError::from)?);
    Ok(Storage {
        whose: Whose { cluster, incarnation: journal.incarnation(), token },
        journal: Arc::<FileJournal>::clone(&journal),
        sessions: None,
        store,
        replica,
        lister: None,
        files: Some(journal),
        directory,
        room: None,
        _data_dir: Some(data_dir),
    })
}

/// Whether the directory's journal refers to objects where the settings say they are.
fn fits(path: &Path, are: ObjectsIn, said: ObjectsIn) -> Result<(), DirectoryError> {
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
    Err(DirectoryError::OtherObjects { path: path.to_owned(), holds, fix })
}
