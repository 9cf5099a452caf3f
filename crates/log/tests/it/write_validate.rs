//! What producers may send, and what they are told otherwise.

use bytes::{Bytes, BytesMut};
use kafscale_log::write::{Invalid, Rule, TimestampRule, TopicRules, Written, validate};
use kafscale_metadata::ProducerBatch;
use proptest::prelude::*;

use crate::write_world::{Batch, World, any_time, partition, seal_crc, settings};

const NOW: i64 = 1_000_000;

fn bounded() -> TopicRules {
    let timestamps = TimestampRule::CreateTime { before_max_ms: 1000, after_max_ms: 100 };
    TopicRules { max_message_bytes: 500, timestamps }
}

/// The answer to a good batch with some bytes changed, and its CRC made right again.
fn with(at: usize, bytes: &[u8]) -> Option<Invalid> {
    let mut batch = Batch::new(NOW).encode();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal_crc(&mut batch);
    validate(batch.freeze(), 9, &bounded(), NOW).err()
}

#[test]
fn a_good_batch_is_taken_as_it_is() {
    let batch = Batch { records: 3, ..Batch::new(NOW).of(7, 5) };
    let valid = validate(batch.encode().freeze(), 3, &bounded(), NOW).unwrap();
    assert_eq!((valid.bytes(), valid.meta().records, valid.meta().max_timestamp), (81, 3, NOW));
    assert_eq!(valid.meta().producer, Some(ProducerBatch { id: 7, epoch: 0, first_sequence: 5 }));
    assert_eq!(valid.append_time(), None);
}

#[test]
fn each_rule_has_its_error() {
    let malformed = |rule| Some(Invalid::Malformed(rule));
    assert_eq!(with(0, &[0; 0]), None);
    assert_eq!(with(0, &1_i64.to_be_bytes()), malformed(Rule::BaseOffset));
    assert_eq!(with(16, &[1]), malformed(Rule::Magic));
    assert_eq!(with(16, &[3]), Some(Invalid::Corrupt));
    assert_eq!(with(8, &(-1_i32).to_be_bytes()), Some(Invalid::Corrupt));
    assert_eq!(with(8, &i32::MAX.to_be_bytes()), malformed(Rule::OneBatch));
    assert_eq!(with(8, &48_i32.to_be_bytes()), Some(Invalid::Corrupt));
    assert_eq!(with(8, &60_i32.to_be_bytes()), malformed(Rule::OneBatch));
    assert_eq!(with(22, &[5]), Some(Invalid::Compression { codec: 5 }));
    assert_eq!(with(22, &[4]), None);
    assert_eq!(with(22, &[0x20]), malformed(Rule::Control));
    assert_eq!(with(22, &[0x10]), Some(Invalid::Transactional));
    assert_eq!(with(22, &[0x08]), Some(Invalid::Timestamp { timestamp: NOW }));
    assert_eq!(with(23, &1_i32.to_be_bytes()), malformed(Rule::Count));
    assert_eq!(with(57, &0_i32.to_be_bytes()), malformed(Rule::Count));
    assert_eq!(with(57, &i32::MIN.to_be_bytes()), malformed(Rule::Count));
    assert_eq!(with(43, &7_i64.to_be_bytes()), malformed(Rule::Producer));
    for at in [27, 35] {
        assert_eq!(with(at, &(-1_i64).to_be_bytes()), None);
        for timestamp in [NOW - 1001, NOW + 101, i64::MIN, i64::MAX] {
            assert_eq!(with(at, &timestamp.to_be_bytes()), Some(Invalid::Timestamp { timestamp }));
        }
        assert_eq!(with(at, &(NOW - 1000).to_be_bytes()), None);
    }
}

#[test]
fn sizes_and_versions() {
    let too_large = |payload| validate(Batch::new(NOW).payload(payload).encode().freeze(), 9, &bounded(), NOW).err();
    assert_eq!(too_large(500 - 61), None);
    assert_eq!(too_large(500 - 60), Some(Invalid::TooLarge { bytes: 501, limit: 500 }));
    let zstd = Batch { attributes: 4, ..Batch::new(NOW) }.encode().freeze();
    assert_eq!(validate(zstd.clone(), 6, &bounded(), NOW).err(), Some(Invalid::Compression { codec: 4 }));
    assert!(validate(zstd, 7, &bounded(), NOW).is_ok());
    let mut two = Batch::new(NOW).encode();
    two.extend_from_slice(&Batch::new(NOW).encode());
    assert_eq!(validate(two.freeze(), 9, &bounded(), NOW).err(), Some(Invalid::Malformed(Rule::OneBatch)));
    assert_eq!(validate(Bytes::new(), 9, &bounded(), NOW).err(), Some(Invalid::Malformed(Rule::OneBatch)));
}

#[test]
fn log_append_time_rewrites_the_header_alone() {
    let rules = TopicRules { timestamps: TimestampRule::LogAppendTime, ..bounded() };
    let sent = Batch::new(5).encode().freeze();
    let valid = validate(sent.clone(), 9, &rules, NOW).unwrap();
    assert_eq!((valid.append_time(), valid.meta().max_timestamp), (Some(NOW), NOW));
    let mut expected = BytesMut::from(&sent[..]);
    expected[22] |= 8;
    expected[35..43].copy_from_slice(&NOW.to_be_bytes());
    seal_crc(&mut expected);
    assert_eq!(stored(valid), expected.to_vec());
}

/// The batch's bytes as they are in the object.
fn stored(valid: kafscale_log::write::ValidBatch) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(settings());
        let bytes = valid.bytes();
        let outcome = world.submit(1, vec![(partition(0), valid)]).remove(0).await;
        assert_eq!(outcome, Written::Appended { first_offset: 0, log_start: 0, append_time: Some(NOW) });
        let run = &world.ledger.commits()[0].runs[0];
        let name = world.store.objects.names()[0];
        let object = kafscale_log::store::ObjectStore::get_all(&world.store.objects, &name).await.unwrap();
        object[run.position as usize..][..bytes].to_vec()
    })
}

proptest! {
    #[test]
    fn any_changed_byte_behind_the_crc_is_noticed(at in 21_usize..81, flip in 1_u8..) {
        let mut batch = Batch::new(NOW).encode();
        batch[at] ^= flip;
        prop_assert!(validate(batch.freeze(), 9, &any_time(), NOW).is_err());
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() > 16 {
            bytes[16] = 2;
        }
        prop_assert!(validate(bytes.into(), 9, &any_time(), NOW).is_err());
    }
}
