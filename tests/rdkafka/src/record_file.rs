//! The file in which the suites hand records on; its form is told in tests/harness/dataset.py.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

pub(crate) struct Entry {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Entry {
    pub(crate) fn from_message(message: &BorrowedMessage<'_>) -> Entry {
        let headers = message.headers().map(|all| {
            all.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect::<Vec<_>>()
        });
        Entry {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }

    pub(crate) fn owned_headers(&self) -> OwnedHeaders {
        self.headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (name, value)| all.insert(Header { key: name, value: value.as_ref() }))
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<Entry>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut left = bytes.as_slice();
    let mut entries = Vec::new();
    while !left.is_empty() {
        entries.push(entry(&mut left).context("the record file ends early")?);
    }
    Ok(entries)
}

fn entry(left: &mut &[u8]) -> Option<Entry> {
    Some(Entry {
        partition: number(left)?,
        offset: i64::from_be_bytes(take(left, 8)?.try_into().ok()?),
        timestamp: i64::from_be_bytes(take(left, 8)?.try_into().ok()?),
        key: blob(left)?,
        value: blob(left)?,
        headers: (0..number(left)?).map(|_| header(left)).collect::<Option<_>>()?,
    })
}

fn header(left: &mut &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    Some((String::from_utf8(blob(left)??).ok()?, blob(left)?))
}

/// The outer option is "the file goes on", the inner one the null of the format.
fn blob(left: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    match usize::try_from(number(left)?) {
        Ok(size) => Some(Some(take(left, size)?.to_vec())),
        Err(_) => Some(None),
    }
}

pub(crate) fn number(left: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(left, 4)?.try_into().ok()?))
}

pub(crate) fn take<'a>(left: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (taken, rest) = left.split_at_checked(size)?;
    *left = rest;
    Some(taken)
}

pub(crate) fn write(path: &Path, entries: &[Entry]) -> Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    write_to(&mut out, entries)?;
    Ok(out.flush()?)
}

pub(crate) fn write_to(out: &mut impl Write, entries: &[Entry]) -> Result<()> {
    for entry in entries {
        out.write_all(&entry.partition.to_be_bytes())?;
        out.write_all(&entry.offset.to_be_bytes())?;
        out.write_all(&entry.timestamp.to_be_bytes())?;
        write_blob(out, entry.key.as_deref())?;
        write_blob(out, entry.value.as_deref())?;
        out.write_all(&(entry.headers.len() as i32).to_be_bytes())?;
        for (name, value) in &entry.headers {
            write_blob(out, Some(name.as_bytes()))?;
            write_blob(out, value.as_deref())?;
        }
    }
    Ok(())
}

fn write_blob(out: &mut impl Write, value: Option<&[u8]>) -> Result<()> {
    out.write_all(&value.map_or(-1, |v| v.len() as i32).to_be_bytes())?;
    Ok(out.write_all(value.unwrap_or_default())?)
}
