//! Listing objects by name: for start-up, upkeep of snapshots, and recovery. A second port beside [`ObjectStore`]
//! (`super`), since nothing on the paths of records may list: what it costs grows with what is stored.
//!
//! A listing goes page by page, in the order of the names' bytes, from a cursor that a caller can keep: a store that
//! is written to meanwhile may or may not show what is new, but shows everything that was there before the first page
//! and is there after the last.

use std::io;

use async_trait::async_trait;

use super::ObjectName;

/// At most so many keys are looked at for a page (what S3 gives for one request).
pub const MAX_LIST_PAGE: usize = 1000;

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(String);

impl Folder {
    /// Every object below the store's prefix.
    pub fn all() -> Self {
        Self(String::new())
    }

    /// The bundles of `cluster`.
    pub fn bundles(cluster: u128) -> Self {
        Self(format!("{cluster:032x}/bundle/"))
    }

    /// The snapshots of `cluster`, of every life of its journal.
    pub fn snapshots(cluster: u128) -> Self {
        Self(format!("{cluster:032x}/snapshot/"))
    }

    /// The snapshots of one life of the journal: the newest is last.
    pub fn snapshots_of(cluster: u128, incarnation: u128) -> Self {
        Self(format!("{cluster:032x}/snapshot/{incarnation:032x}/"))
    }

    /// What the keys in it begin with, below the store's prefix.
    pub(super) fn prefix(&self) -> &str {
        &self.0
    }
}

/// Where a listing goes on: behind this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub(super) String);

/// A part of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of their bytes. May be empty though there is more.
    pub names: Vec<ObjectName>,
    /// Keys that are no names of ours: somebody else writes below this prefix.
    pub strangers: usize,
    /// Where the next page begins; none after the last one.
    pub next: Option<Cursor>,
}

impl Page {
    /// The page of `keys`, which are in order and all behind the last page's end.
    pub(super) fn of<'a>(keys: impl IntoIterator<Item = &'a str>, is_last: bool) -> Self {
        let mut page = Self { names: Vec::new(), strangers: 0, next: None };
        for key in keys {
            match key.parse() {
                Ok(name) => page.names.push(name),
                Err(_) => page.strangers += 1,
            }
            page.next = (!is_last).then(|| Cursor(key.to_owned()));
        }
        page
    }
}

/// The store could not be listed; try again.
#[derive(Debug, thiserror::Error)]
#[error("the store could not be listed")]
pub struct ListError(#[from] pub io::Error);

/// A store whose objects can be listed.
#[async_trait]
pub trait ObjectLister: Send + Sync + 'static {
    /// The next page of a folder, of at most `most` keys (and at most [`MAX_LIST_PAGE`]); the first one without `after`.
    async fn list(&self, folder: &Folder, after: Option<&Cursor>, most: usize) -> Result<Page, ListError>;
}

/// All names of a folder, in order, and how many strangers there are.
pub async fn list_all(lister: &dyn ObjectLister, folder: &Folder) -> Result<(Vec<ObjectName>, usize), ListError> {
    let (mut names, mut strangers, mut after) = (Vec::new(), 0, None);
    loop {
        let page = lister.list(folder, after.as_ref(), MAX_LIST_PAGE).await?;
        names.extend(page.names);
        strangers += page.strangers;
        match page.next {
            Some(cursor) => after = Some(cursor),
            None => return Ok((names, strangers)),
        }
    }
}

/// How a page is cut from all keys, where they can all be had: `keys` in any order.
pub(super) fn cut(mut keys: Vec<String>, after: Option<&Cursor>, most: usize) -> Page {
    keys.retain(|key| after.is_none_or(|Cursor(last)| key > last));
    keys.sort_unstable();
    let most = most.clamp(1, MAX_LIST_PAGE);
    Page::of(keys.iter().take(most).map(String::as_str), keys.len() <= most)
}
