//! The numbers inside records: zigzag, seven bits a byte, the least significant first.
//!
//! Owns reading them checked, and writing them.

use bytes::{BufMut, BytesMut};

/// A number of at most 64 bits from `next`; `None` if it has more.
pub(super) fn read<E>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Option<i64>, E> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = next()?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return Ok(None);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((value >> 1) as i64 ^ -((value & 1) as i64)));
        }
    }
    Ok(None)
}

pub(super) fn write(out: &mut BytesMut, value: i64) {
    let mut bits = (value << 1 ^ value >> 63) as u64;
    while bits >= 0x80 {
        out.put_u8(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.put_u8(bits as u8);
}
