//! Reading a journal file, frame by frame, in bounded memory. Owns the read buffer and the search for a frame behind
//! damage; decides nothing about what damage means.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kafscale_ports::disk::DiskFile;

use super::format::{Entry, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader};
use super::kept::Mark;

const WINDOW_BYTES: usize = 1 << 20;

/// A file behind a read buffer.
pub(super) struct Scan {
    file: Arc<dyn DiskFile>,
    incarnation: u128,
    start: u64,
    window: Bytes,
}

/// What is at a place in a file.
pub(super) enum Step {
    /// The frame that belongs there, and the place after it.
    Frame { entries: Vec<Entry>, next: Mark },
    /// The end of the file.
    End,
    /// Something else: a torn write, or damage.
    Bad(&'static str),
    /// A frame that was written like this: never a torn write.
    Wrong(&'static str),
}

impl Scan {
    pub(super) fn new(file: Arc<dyn DiskFile>, incarnation: u128) -> Self {
        Self { file, incarnation, start: 0, window: Bytes::new() }
    }

    /// `len` bytes at `offset`, fewer only at the file's end.
    async fn at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let within = |scan: &Self| {
            let from = usize::try_from(offset.checked_sub(scan.start)?).ok()?;
            (from.checked_add(len)? <= scan.window.len()).then(|| scan.window.slice(from..from + len))
        };
        if let Some(bytes) = within(self) {
            return Ok(bytes);
        }
        self.window = self.file.read_at(offset, len.max(WINDOW_BYTES)).await?;
        self.start = offset;
        Ok(self.window.slice(..len.min(self.window.len())))
    }

    /// What is at `mark`.
    pub(super) async fn step(&mut self, mark: Mark) -> io::Result<Step> {
        let head = self.at(mark.offset, FRAME_HEADER_BYTES).await?;
        if head.is_empty() {
            return Ok(Step::End);
        }
        let Some(header) = FrameHeader::decode(self.incarnation, &head) else {
            return Ok(Step::Bad("this is not the header of a frame"));
        };
        if header.first != mark.ordinal {
            return Ok(Step::Bad("the frame's ordinal is not the next"));
        }
        let body = self.at(mark.offset + FRAME_HEADER_BYTES as u64, header.body_bytes).await?;
        if body.len() < header.body_bytes {
            return Ok(Step::Bad("the file ends inside the frame"));
        }
        if !header.follows(mark.chain, &head, &body) {
            return Ok(Step::Bad("the frame's checksum is wrong, or it does not follow the frame before it"));
        }
        let bytes = (FRAME_HEADER_BYTES + body.len()) as u64;
        let ordinal = header.first + u64::from(header.count);
        Ok(match header.entries(body) {
            Ok(entries) => {
                Step::Frame { entries, next: Mark { ordinal, offset: mark.offset + bytes, chain: header.chain } }
            }
            Err(detail) => Step::Wrong(detail),
        })
    }

    /// Where, from `offset` on, there is the header of a frame beyond `ordinal`.
    pub(super) async fn find_beyond(&mut self, mut offset: u64, ordinal: u64) -> io::Result<Option<u64>> {
        loop {
            let bytes = self.at(offset, WINDOW_BYTES).await?;
            if bytes.len() < FRAME_HEADER_BYTES {
                return Ok(None);
            }
            let places = bytes.len() - FRAME_HEADER_BYTES + 1;
            let found = (0..places).find(|at| {
                bytes[*at..].starts_with(FRAME_MAGIC)
                    && FrameHeader::decode(self.incarnation, &bytes[*at..]).is_some_and(|h| h.first > ordinal)
            });
            if let Some(at) = found {
                return Ok(Some(offset + at as u64));
            }
            offset += places as u64;
        }
    }

    /// The bytes from one place to another, as they are.
    pub(super) async fn raw(&mut self, from: u64, to: u64) -> io::Result<Bytes> {
        self.at(from, usize::try_from(to - from).map_err(io::Error::other)?).await
    }
}
