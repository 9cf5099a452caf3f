//! The `.kfs` format: what is assembled is read back, and what was changed is noticed and never panics.

use bytes::Bytes;
use kafscale_log::limits::SPARSE_INDEX_INTERVAL_BYTES;
use kafscale_log::segment::{
    Assembled, Footer, Part, SealedBatch, Section, SegmentError, TRAILER_BYTES, assemble, open,
};
use kafscale_metadata::{BatchMeta, ObjectId, TopicId, TopicPartition};
use proptest::prelude::*;

const CLUSTER: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;

fn batch() -> impl Strategy<Value = SealedBatch> {
    (62usize..3000, 1u32..500, any::<i32>(), any::<bool>(), any::<u8>()).prop_map(
        |(bytes, records, max_timestamp, split, fill)| {
            let body = Bytes::from(vec![fill; bytes]);
            let meta = BatchMeta {
                bytes: bytes as u32,
                records,
                max_timestamp: max_timestamp.into(),
                producer: None,
                transactional: false,
            };
            if split {
                SealedBatch::with_header(body.slice(..61), body.slice(61..), meta)
            } else {
                SealedBatch::whole(body, meta)
            }
        },
    )
}

fn section() -> impl Strategy<Value = Section> {
    (any::<u128>(), 0u32..10_000, prop::collection::vec(batch(), 1..150)).prop_map(|(topic, partition, batches)| {
        Section { partition: TopicPartition { topic: TopicId(topic), partition }, batches }
    })
}

fn object() -> impl Strategy<Value = ObjectId> {
    (any::<u64>(), any::<u32>()).prop_map(|(nonce, number)| ObjectId { nonce, number })
}

fn joined(assembled: &Assembled) -> Bytes {
    Bytes::from(assembled.slices.concat())
}

fn section_bytes(section: &Section) -> Vec<u8> {
    section.batches.iter().flat_map(SealedBatch::slices).flat_map(|s| s.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_assembled_is_read_back(object in object(), sections in prop::collection::vec(section(), 0..6)) {
        let assembled = assemble(CLUSTER, object, sections.clone());
        let bytes = joined(&assembled);
        prop_assert_eq!(assembled.len, bytes.len() as u64);
        let reader = open(&bytes).unwrap();
        prop_assert_eq!((reader.header.cluster, reader.header.object), (CLUSTER, object));
        prop_assert_eq!(reader.sections().len(), sections.len());
        let last = assembled.slices.last().unwrap();
        prop_assert_eq!(&Footer::parse(last, assembled.len).unwrap(), reader.footer());
        for (number, section) in sections.iter().enumerate() {
            let (index, run) = (&reader.sections()[number], &assembled.runs[number]);
            prop_assert_eq!(&reader.checked_section(number).unwrap()[..], &section_bytes(section)[..]);
            prop_assert_eq!((index.partition, index.position), (section.partition, run.position));
            prop_assert_eq!(run.partition, section.partition);
            prop_assert!(run.batches.iter().eq(section.batches.iter().map(SealedBatch::meta)));
            prop_assert_eq!(index.records, run.batches.iter().map(|b| u64::from(b.records)).sum::<u64>());
            prop_assert_eq!(Some(index.max_timestamp), run.batches.iter().map(|b| b.max_timestamp).max());
            let (start, end) = (u64::from(index.position), index.end());
            prop_assert_eq!(reader.footer().section_of(start, end).map(|(n, _)| n), Some(number));
            prop_assert_eq!(reader.footer().section_of(start, end + 1), None);
        }
    }

    #[test]
    fn sparse_entries_are_batches_about_every_interval(section in section()) {
        let assembled = assemble(CLUSTER, ObjectId { nonce: 1, number: 2 }, vec![section]);
        let reader = open(&joined(&assembled)).unwrap();
        let (index, run) = (&reader.sections()[0], &assembled.runs[0]);
        let (mut at, mut records, mut newest, mut last) = (run.position, 0, i64::MIN, run.position);
        let mut sparse = index.sparse.iter();
        for batch in &run.batches {
            if at - last >= SPARSE_INDEX_INTERVAL_BYTES {
                let entry = sparse.next().unwrap();
                prop_assert_eq!(
                    (entry.position, entry.records_before, entry.max_timestamp_before),
                    (at, records, newest)
                );
                last = at;
            }
            at += batch.bytes;
            records += u64::from(batch.records);
            newest = newest.max(batch.max_timestamp);
        }
        prop_assert_eq!(sparse.next(), None);
    }

    #[test]
    fn a_changed_byte_is_noticed_in_its_section_alone(
        sections in prop::collection::vec(section(), 1..4),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut bytes = assemble(CLUSTER, ObjectId { nonce: 7, number: 9 }, sections).slices.concat();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(reader) = open(&Bytes::from(bytes)) {
            let damaged: Vec<usize> =
                (0..reader.sections().len()).filter(|n| reader.checked_section(*n).is_err()).collect();
            let owner = reader.sections().iter().position(|s| (u64::from(s.position)..s.end()).contains(&(at as u64)));
            prop_assert_eq!(damaged, owner.into_iter().collect::<Vec<_>>());
            prop_assert!(owner.is_some(), "byte {} is in header, footer or trailer and was not noticed", at);
        }
    }

    #[test]
    fn strange_bytes_never_panic(
        sections in prop::collection::vec(section(), 1..3),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = assemble(CLUSTER, ObjectId { nonce: 7, number: 9 }, sections).slices.concat();
        // Edits near the end, with the checksum mended, so that they reach the decoder.
        let tail = bytes.len().min(200);
        for (at, value) in edits {
            let at = bytes.len() - 1 - at.index(tail);
            bytes[at] = value;
        }
        mend_footer_checksum(&mut bytes);
        read_everything(Bytes::copy_from_slice(&bytes));
        bytes.truncate(cut.index(bytes.len()));
        read_everything(Bytes::from(bytes));
        read_everything(Bytes::from(noise));
    }
}

fn mend_footer_checksum(bytes: &mut [u8]) {
    let end = bytes.len() - TRAILER_BYTES;
    let footer_len = u32::from_be_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    let Some(start) = end.checked_sub(footer_len) else { return };
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[start..end]) as u32;
    bytes[end + 4..end + 8].copy_from_slice(&crc.to_be_bytes());
}

fn read_everything(bytes: Bytes) {
    for len in [0, bytes.len() as u64, u64::MAX] {
        let _ = Footer::parse(&bytes, len);
    }
    if let Ok(reader) = open(&bytes) {
        for number in 0..reader.sections().len() {
            let _ = reader.checked_section(number);
        }
    }
}

#[test]
fn a_tail_too_short_says_how_much_is_needed() {
    let partition = TopicPartition { topic: TopicId(5), partition: 0 };
    let meta = BatchMeta { bytes: 70, records: 1, max_timestamp: 3, producer: None, transactional: false };
    let batches = vec![SealedBatch::whole(Bytes::from(vec![1; 70]), meta)];
    let assembled = assemble(CLUSTER, ObjectId { nonce: 1, number: 1 }, vec![Section { partition, batches }]);
    let bytes = joined(&assembled);
    let short = &bytes[bytes.len() - 20..];
    let Err(SegmentError::Short { needed, given: 20 }) = Footer::parse(short, assembled.len) else { panic!() };
    assert!(Footer::parse(&bytes[bytes.len() - needed as usize..], assembled.len).is_ok());
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let mut bytes = assemble(CLUSTER, ObjectId { nonce: 1, number: 1 }, vec![]).slices.concat();
    bytes[5] = 2;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[..36]) as u32;
    bytes[36..40].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(open(&Bytes::from(bytes.clone())).unwrap_err(), SegmentError::NewerFormat { version: 2 });
    bytes[0] = b'X';
    assert_eq!(open(&Bytes::from(bytes)).unwrap_err(), SegmentError::NoMagic(Part::Header));
}

#[test]
fn an_absurd_number_of_sections_allocates_nothing() {
    let mut bytes = assemble(CLUSTER, ObjectId { nonce: 1, number: 1 }, vec![]).slices.concat();
    let footer = bytes.len() - TRAILER_BYTES - 4;
    bytes[footer..footer + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    mend_footer_checksum(&mut bytes);
    assert_eq!(open(&Bytes::from(bytes)).unwrap_err(), SegmentError::Malformed(Part::Footer));
}
