//! Snappy as Kafka has it: Java clients frame it in chunks (the format of xerial's snappy-java), others write one raw
//! block.
//!
//! Owns telling the two apart, and the frame: 8 bytes of magic, two versions, then chunks of a length and a raw block.
//! Inflates one chunk at a time.

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use snap::raw;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const VERSIONS: usize = 8;
const CHUNK: usize = 32 * 1024;
/// No input inflates more: a copy of 64 bytes takes 3. Beyond it a chunk lies about its size.
const MAX_RATIO: usize = 22;

/// Inflates either form.
pub(super) struct Reader {
    rest: Bytes,
    is_framed: bool,
    chunk: io::Cursor<Vec<u8>>,
    /// The largest chunk that is inflated.
    limit: usize,
}

impl Reader {
    pub(super) fn new(mut bytes: Bytes, limit: usize) -> Self {
        let is_framed = bytes.starts_with(&MAGIC) && bytes.len() >= MAGIC.len() + VERSIONS;
        if is_framed {
            bytes.advance(MAGIC.len() + VERSIONS);
        }
        Self { rest: bytes, is_framed, chunk: io::Cursor::default(), limit }
    }

    fn next_chunk(&mut self) -> io::Result<Bytes> {
        if !self.is_framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let length = self.rest.try_get_u32().map_err(|_| damaged("a snappy chunk's length is cut off"))? as usize;
        if length > self.rest.len() {
            return Err(damaged("a snappy chunk is cut off"));
        }
        Ok(self.rest.split_to(length))
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.position() == self.chunk.get_ref().len() as u64 && !self.rest.is_empty() {
            let chunk = self.next_chunk()?;
            let size = raw::decompress_len(&chunk).map_err(io::Error::other)?;
            if size > self.limit || size > chunk.len().saturating_mul(MAX_RATIO) {
                return Err(damaged("a snappy chunk says that it is larger than it can be"));
            }
            self.chunk = io::Cursor::new(raw::Decoder::new().decompress_vec(&chunk).map_err(io::Error::other)?);
        }
        self.chunk.read(out)
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The form of the Java clients.
pub(super) fn compress(bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&MAGIC);
    // The version, and the oldest version that can read it.
    out.put_u32(1);
    out.put_u32(1);
    for chunk in bytes.chunks(CHUNK) {
        let block = raw::Encoder::new().compress_vec(chunk).expect("a chunk is far below snappy's 4 GiB");
        out.put_u32(u32::try_from(block.len()).expect("32 KiB do not grow beyond 4 GiB"));
        out.put_slice(&block);
    }
    out.freeze()
}
