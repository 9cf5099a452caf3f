//! Reads a whole object that came from the store. Owns the header's check and the sections' checksums; does not own
//! what a damaged section means to a client. The bytes are a stranger's: nothing here panics on them.

use bytes::{Buf, Bytes};
use kafscale_metadata::ObjectId;

use super::{
    FORMAT_VERSION, Footer, HEADER_BYTES, KIND_BUNDLE, MAGIC, Part, SectionIndex, SegmentError, TRAILER_BYTES, crc32c,
};

/// Who wrote an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The cluster it belongs to.
    pub cluster: u128,
    /// The session that wrote it, and its number there.
    pub object: ObjectId,
}

impl Header {
    /// Reads the header from an object's first bytes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(head: &[u8]) -> Result<Self, SegmentError> {
        let Some((header, _)) = head.split_first_chunk::<HEADER_BYTES>() else {
            return Err(SegmentError::Short { needed: HEADER_BYTES as u64, given: head.len() as u64 });
        };
        let (signed, mut crc) = header.split_at(HEADER_BYTES - 4);
        let Some(mut fields) = signed.strip_prefix(&MAGIC) else {
            return Err(SegmentError::NoMagic(Part::Header));
        };
        // Before the version: a damaged version is damage, and not a newer release's object.
        if crc32c(signed) != crc.get_u32() {
            return Err(SegmentError::Checksum(Part::Header));
        }
        let version = fields.get_u16();
        if version > FORMAT_VERSION {
            return Err(SegmentError::NewerFormat { version });
        }
        if version == 0 || fields.get_u16() != u16::from(KIND_BUNDLE) << 8 {
            return Err(SegmentError::Malformed(Part::Header));
        }
        let cluster = fields.get_u128();
        let object = ObjectId { nonce: fields.get_u64(), number: fields.get_u32() };
        Ok(Self { cluster, object })
    }
}

/// A whole object with its index.
#[derive(Debug, Clone)]
pub struct BundleReader {
    /// Who wrote it.
    pub header: Header,
    footer: Footer,
    bytes: Bytes,
}

/// Reads an object's header and index. The sections' checksums are not looked at: see
/// [`BundleReader::checked_section`].
///
/// # Errors
/// What is wrong with it.
pub fn open(bytes: &Bytes) -> Result<BundleReader, SegmentError> {
    let needed = (HEADER_BYTES + TRAILER_BYTES) as u64;
    let given = bytes.len() as u64;
    if given < needed {
        return Err(SegmentError::Short { needed, given });
    }
    let header = Header::parse(bytes)?;
    let footer = Footer::parse(bytes, given)?;
    Ok(BundleReader { header, footer, bytes: bytes.clone() })
}

impl BundleReader {
    /// What is in it, in order of position.
    pub fn sections(&self) -> &[SectionIndex] {
        &self.footer.sections
    }

    /// The index.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// A section's bytes, unchecked.
    ///
    /// # Panics
    /// If there is no section of this number.
    pub fn section(&self, number: usize) -> Bytes {
        let section = &self.footer.sections[number];
        let start = section.position as usize;
        self.bytes.slice(start..start + section.bytes as usize)
    }

    /// A section's bytes, if they are those that were written.
    ///
    /// # Errors
    /// [`SegmentError::Checksum`].
    ///
    /// # Panics
    /// If there is no section of this number.
    pub fn checked_section(&self, number: usize) -> Result<Bytes, SegmentError> {
        let bytes = self.section(number);
        if crc32c(&bytes) == self.footer.sections[number].crc {
            Ok(bytes)
        } else {
            Err(SegmentError::Checksum(Part::Section(number)))
        }
    }
}
