//! The formats round-trip, and no flipped bit goes unnoticed.

use proptest::prelude::*;

use super::*;

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![Just(Kind::Open), Just(Kind::Append), Just(Kind::Leave)];
    (kind, any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(kind, nonce, n, bytes)| Entry { kind, nonce, n, bytes: bytes.into() })
}

proptest! {
    #[test]
    fn file_header_round_trips(incarnation: u128, first: u64, chain: u32, bit in 0..FILE_HEADER_BYTES * 8) {
        let header = FileHeader { incarnation, first, chain };
        let mut bytes = header.encode().to_vec();
        prop_assert_eq!(bytes.len(), FILE_HEADER_BYTES);
        prop_assert_eq!(FileHeader::decode(&bytes), Ok(header));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(FileHeader::decode(&bytes), Err(HeaderFault::Unreadable));
    }

    #[test]
    fn frame_round_trips(
        incarnation: u128, before: u32, first in 1..u64::MAX / 2,
        entries in prop::collection::vec(entry(), 1..5), bit: prop::sample::Index,
    ) {
        let frame = encode_frame(incarnation, before, first, &entries);
        let mut bytes = frame.slices.concat();
        prop_assert_eq!(bytes.len() as u64, frame.bytes);
        let read = |bytes: &[u8]| {
            let header = FrameHeader::decode(incarnation, bytes)?;
            let body = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.body_bytes)?;
            header.follows(before, bytes, body).then(|| (header, header.entries(Bytes::copy_from_slice(body))))
        };
        let (header, decoded) = read(&bytes).expect("whole");
        prop_assert_eq!(header.first, first);
        prop_assert_eq!(header.chain, frame.chain);
        prop_assert_eq!(decoded, Ok(entries));
        prop_assert!(!header.follows(before ^ 1, &bytes, &bytes[FRAME_HEADER_BYTES..]));
        prop_assert_eq!(FrameHeader::decode(incarnation ^ 1, &bytes), None);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(read(&bytes), None);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 1u32..5) {
        let _ = FileHeader::decode(&bytes);
        let _ = FrameHeader::decode(7, &bytes);
        let header = FrameHeader { body_bytes: bytes.len(), first: 1, count, chain: 0 };
        let _ = header.entries(bytes.into());
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = FileHeader { incarnation: 1, first: 1, chain: 0 }.encode().to_vec();
    bytes[8] = 9;
    let check = crc(&[&bytes[..60]]);
    bytes[60..].copy_from_slice(&check.to_le_bytes());
    assert_eq!(FileHeader::decode(&bytes), Err(HeaderFault::Newer(9)));
}

#[test]
fn the_bytes_are_these() {
    let header = FileHeader { incarnation: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, first: 5, chain: 6 }.encode();
    assert_eq!(&header[..16], b"KAFSJRNL\x01\0\0\0\x06\0\0\0");
    assert_eq!(&header[16..20], &[0x10, 0x0f, 0x0e, 0x0d]);
    let entries = [Entry { kind: Kind::Leave, nonce: 2, n: 3, bytes: Bytes::from_static(b"xy") }];
    let frame = encode_frame(1, 0, 4, &entries).slices.concat();
    assert_eq!(&frame[..24], b"KFRM\x17\0\0\0\x04\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
    assert_eq!(&frame[32..], b"\x03\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0xy");
}
