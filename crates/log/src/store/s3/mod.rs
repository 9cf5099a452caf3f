//! Objects in a bucket of S3, or of a server that speaks its protocol. Owns how the port's calls become requests and what
//! their outcomes mean to the port; how requests travel is `transport`'s, which failure means what `failure`'s.
//!
//! # Keys
//!
//! An object's key is the store's prefix, a slash and the object's name (see "Names of objects"). The start check writes
//! one more key, `probe-` and 16 hexadecimal digits, and deletes it again; what a start that was killed leaves of it
//! may be deleted by hand. Nothing else is written. The bucket needs no versioning; with it, a rule of its lifecycle
//! should remove old versions.
//!
//! # Permissions
//!
//! | permission | on | for |
//! |---|---|---|
//! | `s3:PutObject` | `BUCKET/PREFIX/*` | bundles and snapshots |
//! | `s3:GetObject` | `BUCKET/PREFIX/*` | reading, and finding out after a doubtful PUT |
//! | `s3:DeleteObject` | `BUCKET/PREFIX/*` | superseded snapshots, the probe |
//! | `s3:ListBucket` | `BUCKET` | start and recovery; and without it S3 calls a missing object "denied" |
//! | `kms:GenerateDataKey`, `kms:Decrypt` | the key | only with a KMS key |
//!
//! # Writing
//!
//! A PUT is one request with `If-None-Match: *`, so that an object is created only if it is absent. The answer "exists
//! already" can be to a repetition of our own request (by a proxy, say), so the object is read: if it has our bytes it is
//! stored, and if it has others a name was used twice, which is a defect and is reported as one. The slices of a body are
//! sent as they are, never copied together.
//!
//! Each request is one attempt; retries under new names are the writer's. It has 6 seconds and one more for each MiB, and
//! 5 minutes at most; a connection has 3 seconds. At most 32 writes and 64 reads are on their way at a time.
//!
//! # What each failure becomes
//!
//! | failure | of a PUT | of a GET | seen by clients |
//! |---|---|---|---|
//! | no connection | not stored; tried again | failed; tried again | a retriable error when tries run out |
//! | 401, 403, 3xx, 404 of the bucket | not stored; tried again | failed | the same; the log says what to correct |
//! | 404 of the key | – | not there | the position is looked up again |
//! | 507, a quota | not stored, the store is full | failed | produce is refused with a retriable error |
//! | 500, 503, broken connection, no answer in time | unknown; tried under another name | failed; tried again | a longer wait, then a retriable error |
//! | 409, 412 | see above | – | none |

mod check;
mod claim;
mod failure;
mod settings;
mod transport;

use std::io;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use kafscale_ports::Env;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectStore as _, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use tokio::time::{sleep, timeout};

pub use check::CheckError;
pub use failure::{Action, Answer, Failure, S3Error};
pub use settings::{S3Options, S3Settings, Secret, SettingsError};
pub use transport::TlsError;

use super::list::{Cursor, Folder, ListError, MAX_LIST_PAGE, ObjectLister, Page};
use super::{GetError, ObjectName, ObjectStore, PutError};
use crate::limits::MAX_STORE_OBJECT_BYTES;
use failure::Effect;
use transport::{ServerDate, Transport, limit};

/// Waits before the reads that find out whose object has a name. S3 says 409 while another PUT of the name is on its way.
const RESOLVE_AFTER_MS: [u64; 5] = [0, 50, 100, 200, 400];
/// So much memory is taken for an object before its bytes are there.
const EAGER_BYTES: u64 = 64 << 20;

/// A bucket, or a prefix in it.
pub struct S3Store {
    client: AmazonS3,
    bucket: String,
    settings: S3Settings,
    env: Env,
}

impl std::fmt::Debug for S3Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Store").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl S3Store {
    /// A store on what `settings` say. Asks the server nothing: [`S3Store::check`] does.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(settings: S3Settings, env: Env) -> Result<Self, TlsError> {
        let transport = Transport::new(settings.endpoint.starts_with("https:"), &settings.authorities, &env)?;
        let no_retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(transport)
            .with_retry(no_retries)
            .with_endpoint(&settings.endpoint)
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key)
            .with_secret_access_key(settings.secret_key.reveal())
            .with_unsigned_payload(settings.unsigned_payload)
            // A DELETE of its own for each object: many servers do not know the other, and ours are few.
            .with_disable_bulk_delete(true);
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(token.reveal());
        }
        if let Some(key) = &settings.kms_key {
            builder = builder.with_sse_kms_encryption(key);
        }
        let client = builder.build().expect("settings that were checked make a client");
        Ok(Self { client, bucket: settings.bucket.clone(), settings, env })
    }

    fn key(&self, name: &ObjectName) -> String {
        self.settings.key(&name.to_string())
    }

    fn error(&self, action: Action, key: &str, failure: Failure) -> io::Error {
        S3Error { action, bucket: self.bucket.clone(), key: key.to_owned(), failure }.into()
    }

    /// One PUT that creates, or does nothing. Returns the server's clock.
    async fn create(&self, key: &str, body: Vec<Bytes>) -> Result<Option<String>, Failure> {
        let payload: PutPayload = body.into_iter().filter(|slice| !slice.is_empty()).collect();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.client.put_opts(&path(key), payload, options).await {
            Ok(put) => Ok(put.extensions.get::<ServerDate>().map(|date| date.0.clone())),
            Err(error) => Err(Failure::of(&error)),
        }
    }

    /// One GET, of a range that is not empty or of all.
    async fn fetch(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        // More than any object has, and some servers take no larger number.
        let bounded = range.map(|range| GetRange::Bounded(range.start..range.end.min(i64::MAX as u64)));
        let options = GetOptions { range: bounded, ..GetOptions::default() };
        let answer = self.client.get_opts(&path(key), options).await.map_err(|error| Failure::of(&error))?;
        let len = answer.range.end - answer.range.start;
        if len > MAX_STORE_OBJECT_BYTES {
            return Err(Failure::NoAnswer(format!(
                "the object has {len} bytes, and none of ours has more than {MAX_STORE_OBJECT_BYTES}: it is not ours"
            )));
        }
        let within = limit(len);
        match timeout(within, gather(answer, len)).await {
            Ok(gathered) => gathered,
            Err(_) => Err(Failure::NoAnswer(format!("of {len} bytes not all came within {within:?}"))),
        }
    }

    /// The same for any range.
    async fn fetch_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        // HTTP has no empty range; what is asked for is then whether the object is there.
        let asked = if range.is_empty() { 0..1 } else { range.clone() };
        match self.fetch(key, Some(asked)).await {
            Ok(_) if range.is_empty() => Ok(Bytes::new()),
            Err(failure) if failure.is_behind_the_end() => Ok(Bytes::new()),
            answer => answer,
        }
    }

    /// The store said that the name is taken: by whom?
    async fn resolve(&self, name: &ObjectName, body: &[Bytes], said: Failure) -> Result<(), PutError> {
        let key = self.key(name);
        let len = body.iter().map(|slice| slice.len() as u64).sum::<u64>();
        for pause in RESOLVE_AFTER_MS {
            sleep(Duration::from_millis(pause)).await;
            // One byte more, so that a longer object differs.
            match self.fetch_range(&key, 0..len + 1).await {
                Ok(stored) if is_same(&stored, body) => {
                    tracing::info!(object = %name, "a PUT that was said to come too late had landed before");
                    return Ok(());
                }
                Ok(_) => return Err(PutError::taken(name)),
                Err(failure) if failure.is_no_such_key() => {}
                Err(failure) => return Err(PutError::Unknown(self.error(Action::Get, &key, failure))),
            }
        }
        Err(PutError::Unknown(self.error(Action::Put, &key, said)))
    }

    fn get_error(&self, name: &ObjectName, failure: Failure) -> GetError {
        if failure.is_no_such_key() {
            return GetError::NotFound(name.to_string());
        }
        GetError::Failed { name: name.to_string(), source: self.error(Action::Get, &self.key(name), failure) }
    }

    /// One DELETE.
    async fn remove(&self, key: &str) -> Result<(), Failure> {
        match self.client.delete(&path(key)).await.map_err(|error| Failure::of(&error)) {
            Err(failure) if failure.is_no_such_key() => Ok(()),
            answer => answer,
        }
    }

    /// One request for a listing: keys below the store's prefix, and whether there are more.
    async fn keys(&self, folder: &str, after: Option<&str>, most: usize) -> Result<(Vec<String>, bool), Failure> {
        let prefix = self.settings.key(folder);
        let options = PaginatedListOptions {
            offset: after.map(|after| self.settings.key(after)),
            max_keys: Some(most.clamp(1, MAX_LIST_PAGE)),
            ..PaginatedListOptions::default()
        };
        let prefix = Some(&*prefix).filter(|prefix| !prefix.is_empty());
        let listed = self.client.list_paginated(prefix, options).await.map_err(|error| Failure::of(&error))?;
        let root = self.settings.key("");
        let key = |object: &object_store::ObjectMeta| object.location.as_ref().strip_prefix(&root).map(str::to_owned);
        let keys: Vec<String> = listed.result.objects.iter().filter_map(key).collect();
        let mut last = after.unwrap_or_default();
        for key in &keys {
            if &**key <= last {
                return Err(Failure::NoAnswer(format!("the server lists {key:?} behind {last:?}: it has no order")));
            }
            last = key;
        }
        Ok((keys, listed.page_token.is_some()))
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, name: &ObjectName, body: Vec<Bytes>) -> Result<(), PutError> {
        let key = self.key(name);
        let Err(failure) = self.create(&key, body.clone()).await else { return Ok(()) };
        match failure.effect() {
            Effect::None => Err(PutError::Refused(self.error(Action::Put, &key, failure))),
            Effect::Perhaps => Err(PutError::Unknown(self.error(Action::Put, &key, failure))),
            Effect::Exists => self.resolve(name, &body, failure).await,
        }
    }

    async fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, GetError> {
        self.fetch_range(&self.key(name), range).await.map_err(|failure| self.get_error(name, failure))
    }

    async fn get_all(&self, name: &ObjectName) -> Result<Bytes, GetError> {
        self.fetch(&self.key(name), None).await.map_err(|failure| self.get_error(name, failure))
    }

    async fn delete(&self, name: &ObjectName) -> io::Result<()> {
        let key = self.key(name);
        self.remove(&key).await.map_err(|failure| self.error(Action::Delete, &key, failure))
    }

    async fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[async_trait]
impl ObjectLister for S3Store {
    async fn list(&self, folder: &Folder, after: Option<&Cursor>, most: usize) -> Result<Page, ListError> {
        let after = after.map(|Cursor(key)| &**key);
        match self.keys(folder.prefix(), after, most).await {
            Ok((keys, is_more)) => Ok(Page::of(keys.iter().map(String::as_str), !is_more)),
            Err(failure) => Err(ListError(self.error(Action::List, &self.settings.key(folder.prefix()), failure))),
        }
    }
}

/// The path of a key. Prefixes were checked, and names are of letters, digits, slashes and hyphens.
fn path(key: &str) -> Path {
    Path::parse(key).expect("our keys have no empty part")
}

/// The bytes of a good answer.
async fn gather(answer: GetResult, len: u64) -> Result<Bytes, Failure> {
    let mut stream = answer.into_stream();
    let mut whole = BytesMut::new();
    while let Some(next) = stream.next().await {
        let next = next.map_err(|error| Failure::of(&error))?;
        if whole.is_empty() && next.len() as u64 == len {
            // A small object comes in one piece.
            return Ok(next);
        }
        if whole.capacity() == 0 {
            whole.reserve(usize::try_from(len.min(EAGER_BYTES)).unwrap_or(0));
        }
        whole.extend_from_slice(&next);
    }
    if whole.len() as u64 != len {
        return Err(Failure::NoAnswer(format!("the answer has {} bytes and not {len}", whole.len())));
    }
    Ok(whole.freeze())
}

fn is_same(stored: &[u8], body: &[Bytes]) -> bool {
    let mut rest = stored;
    for slice in body {
        match rest.split_at_checked(slice.len()) {
            Some((this, after)) if this == &slice[..] => rest = after,
            Some(_) | None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_however_they_are_cut() {
        let body = [Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")];
        assert!(is_same(b"abcde", &body));
        for other in [&b""[..], b"abcd", b"abcdef", b"abcdE", b"Abcde", b"ab"] {
            assert!(!is_same(other, &body));
        }
        assert!(is_same(b"", &[]) && is_same(b"", &[Bytes::new()]) && !is_same(b"a", &[]));
    }
}
