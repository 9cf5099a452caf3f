//! The object store port and its backends. Objects are written once, created only if absent, under names
//! that are never reused; so a PUT needs no rename, and a half-written object is one that no entry refers to.

pub mod conformance;
mod directory;
mod list;
mod memory;
mod name;
mod replica;
pub mod s3;

use std::io;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

pub use directory::DirectoryStore;
pub use list::{Cursor, Folder, ListError, MAX_LIST_PAGE, ObjectLister, Page, list_all};
pub use memory::{GetFault, MemoryStore, PutFault};
pub use name::{NotAName, ObjectName};
pub use replica::ReadReplica;

/// Why an object was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// It is not there and never will be by this call.
    #[error("the store refused the object")]
    Refused(#[source] io::Error),
    /// It may be there, whole or in part. The kind `AlreadyExists` says that the name is taken: names are never used
    /// twice, so it is a first attempt of the same call that landed after all, or a defect.
    #[error("the store did not say whether it has the object")]
    Unknown(#[source] io::Error),
}

impl PutError {
    /// What the store said, for people.
    pub fn cause(&self) -> &io::Error {
        match self {
            Self::Refused(cause) | Self::Unknown(cause) => cause,
        }
    }

    /// There is an object of that name.
    fn taken(name: &ObjectName) -> Self {
        let what = format!(
            "object {name} exists already: names are never used twice, so this is a defect, or a first attempt of the same PUT"
        );
        Self::Unknown(io::Error::new(io::ErrorKind::AlreadyExists, what))
    }
}

/// Why an object was not read.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// There is no such object.
    #[error("no object {0}")]
    NotFound(String),
    /// The store failed; try again.
    #[error("the store could not read {name}")]
    Failed {
        /// The object.
        name: String,
        /// What the store said.
        #[source]
        source: io::Error,
    },
}

/// A store of immutable objects.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Stores an object durably: when this returns, a power failure does not lose it. The slices are the object's
    /// bytes, one after the other. An object that is there is never overwritten.
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError>;
    /// A range of an object's bytes; cut at its end, so that it may be empty.
    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError>;
    /// A whole object.
    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError>;
    /// Removes an object that nothing refers to; one that is not there is no failure. After a power failure it may be
    /// back.
    async fn delete(&self, name: &ObjectName) -> io::Result<()>;
    /// Bytes that may still be stored; `u64::MAX` where there is no such bound.
    async fn free_bytes(&self) -> io::Result<u64>;
}
