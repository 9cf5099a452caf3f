//! The objects, by bucket and key. Owns that a name is created once (one lock), and the bound on memory.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

/// One object.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its bytes.
    pub bytes: Bytes,
    /// A name for its bytes, as hexadecimal digits.
    pub tag: String,
    /// When it was written.
    pub written: SystemTime,
    /// The KMS key that it was asked to be encrypted with.
    pub kms_key: Option<String>,
}

/// Why an object was not stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unstored {
    NoBucket,
    Exists,
    NoRoom,
}

#[derive(Debug)]
pub(crate) struct Objects {
    buckets: BTreeMap<String, BTreeMap<String, Stored>>,
    bytes: usize,
    max_bytes: usize,
}

/// A part of a listing.
pub(crate) struct Listed {
    pub(crate) objects: Vec<(String, Stored)>,
    pub(crate) is_truncated: bool,
}

impl Objects {
    pub(crate) fn new(buckets: &[String], max_bytes: usize) -> Self {
        Self { buckets: buckets.iter().map(|name| (name.clone(), BTreeMap::new())).collect(), bytes: 0, max_bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn count(&self) -> usize {
        self.buckets.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn has_bucket(&self, bucket: &str) -> bool {
        self.buckets.contains_key(bucket)
    }

    /// Makes a bucket, unless it is there.
    pub(crate) fn create_bucket(&mut self, bucket: &str) {
        self.buckets.entry(bucket.to_owned()).or_default();
    }

    /// Stores an object; `only_new` is `If-None-Match: *`.
    pub(crate) fn put(&mut self, bucket: &str, key: String, object: Stored, only_new: bool) -> Result<(), Unstored> {
        let objects = self.buckets.get_mut(bucket).ok_or(Unstored::NoBucket)?;
        let old = objects.get(&key).map_or(0, |old| old.bytes.len());
        if only_new && objects.contains_key(&key) {
            return Err(Unstored::Exists);
        }
        let bytes = self.bytes - old + object.bytes.len();
        if bytes > self.max_bytes {
            return Err(Unstored::NoRoom);
        }
        self.bytes = bytes;
        objects.insert(key, object);
        Ok(())
    }

    /// `Err` if there is no such bucket.
    pub(crate) fn get(&self, bucket: &str, key: &str) -> Result<Option<Stored>, Unstored> {
        Ok(self.buckets.get(bucket).ok_or(Unstored::NoBucket)?.get(key).cloned())
    }

    /// `Err` if there is no such bucket.
    pub(crate) fn delete(&mut self, bucket: &str, key: &str) -> Result<(), Unstored> {
        if let Some(old) = self.buckets.get_mut(bucket).ok_or(Unstored::NoBucket)?.remove(key) {
            self.bytes -= old.bytes.len();
        }
        Ok(())
    }

    /// The objects that begin with `prefix` and are behind `after`, `most` at most.
    pub(crate) fn list(&self, bucket: &str, prefix: &str, after: &str, most: usize) -> Result<Listed, Unstored> {
        let objects = self.buckets.get(bucket).ok_or(Unstored::NoBucket)?;
        let from = prefix.max(after).to_owned();
        let mut found =
            objects.range(from..).filter(|(key, _)| &***key > after).take_while(|(key, _)| key.starts_with(prefix));
        let objects = found.by_ref().take(most).map(|(key, object)| (key.clone(), object.clone())).collect();
        Ok(Listed { objects, is_truncated: found.next().is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(len: usize) -> Stored {
        Stored { bytes: vec![0; len].into(), tag: String::new(), written: SystemTime::UNIX_EPOCH, kms_key: None }
    }

    #[test]
    fn memory_is_counted_and_bounded() {
        let mut objects = Objects::new(&["b".to_owned()], 100);
        let mut put = |key: &str, len, only_new| objects.put("b", key.to_owned(), object(len), only_new);
        assert_eq!(put("a", 60, true), Ok(()));
        assert_eq!(put("a", 1, true), Err(Unstored::Exists));
        assert_eq!(put("b", 41, true), Err(Unstored::NoRoom));
        assert_eq!(put("a", 90, false), Ok(()), "what is replaced makes room");
        assert_eq!(put("b", 10, true), Ok(()));
        assert_eq!((objects.bytes(), objects.count()), (100, 2));
        objects.delete("b", "a").unwrap();
        objects.delete("b", "a").unwrap();
        assert_eq!((objects.bytes(), objects.count()), (10, 1));
        assert_eq!(objects.put("c", "a".to_owned(), object(1), true), Err(Unstored::NoBucket));
    }

    #[test]
    fn a_listing_goes_on_where_it_stopped() {
        let mut objects = Objects::new(&["b".to_owned()], 100);
        for key in ["a", "p/1", "p/10", "p/2", "q"] {
            objects.put("b", key.to_owned(), object(1), true).unwrap();
        }
        let list = |prefix: &str, after: &str, most| {
            let listed = objects.list("b", prefix, after, most).unwrap();
            (listed.objects.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), listed.is_truncated)
        };
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(list("p/", "", 2), (keys(&["p/1", "p/10"]), true));
        assert_eq!(list("p/", "p/10", 2), (keys(&["p/2"]), false));
        assert_eq!(list("p/", "zzz", 2), (keys(&[]), false));
        assert_eq!(list("", "", 5), (keys(&["a", "p/1", "p/10", "p/2", "q"]), false));
    }
}
