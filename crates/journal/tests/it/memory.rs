//! The memory journal's faults do what they say.

use bytes::Bytes;
use kafscale_journal::memory::{Fault, MemoryJournal};
use kafscale_journal::{AppendError, Identity, Journal, OpenError, Pointer, ReadError};

const ME: Identity = Identity { broker_id: 1, token: 7 };

fn entry(n: u64) -> Bytes {
    Bytes::from(format!("entry {n}"))
}

async fn end(journal: &MemoryJournal) -> u64 {
    journal.end().await.unwrap().ordinal
}

#[tokio::test]
async fn an_unknown_append_lands_once_whatever_was_lost() {
    for fault in [Fault::LoseRequest, Fault::LoseReply, Fault::Delay] {
        let journal = MemoryJournal::new();
        journal.open(ME, 1, entry(0)).await.unwrap();
        journal.script([fault, fault]);
        for _ in 0..2 {
            assert!(matches!(journal.append(1, 1, entry(1)).await, Err(AppendError::Unknown(_))));
        }
        assert_eq!(end(&journal).await, if fault == Fault::LoseReply { 2 } else { 1 });
        assert_eq!(journal.append(1, 1, entry(1)).await.unwrap().ordinal, 2);
        assert_eq!(journal.deliver_late(), 0);
        assert_eq!(end(&journal).await, 2);
    }
}

#[tokio::test]
async fn an_unknown_append_may_land_by_itself_but_not_after_the_fence() {
    let journal = MemoryJournal::new();
    journal.open(ME, 1, entry(0)).await.unwrap();
    journal.script([Fault::Refuse, Fault::Delay, Fault::Delay]);
    assert!(matches!(journal.append(1, 1, entry(1)).await, Err(AppendError::Refused(_))));
    assert!(matches!(journal.append(1, 1, entry(1)).await, Err(AppendError::Unknown(_))));
    assert_eq!(journal.deliver_late(), 1);
    assert!(matches!(journal.append(1, 1, entry(1)).await, Err(AppendError::Unknown(_))));
    assert_eq!(journal.append(1, 1, entry(1)).await.unwrap().ordinal, 2);
    journal.script([Fault::Delay]);
    assert!(journal.append(1, 2, entry(2)).await.is_err());
    journal.end_session(1, entry(9)).unwrap();
    assert_eq!(journal.deliver_late(), 0, "the first late repetition is known, the other is fenced");
    assert_eq!(end(&journal).await, 3);
}

#[tokio::test]
async fn a_session_lost_in_between_leaves_the_entry_in_or_out() {
    let journal = MemoryJournal::new();
    journal.open(ME, 1, entry(0)).await.unwrap();
    journal.script([Fault::ExpireAfter]);
    assert!(matches!(journal.append(1, 1, entry(1)).await, Err(AppendError::Unknown(_))));
    assert_eq!(journal.append(1, 1, entry(1)).await.unwrap().ordinal, 2, "committed, though fenced since");
    assert!(matches!(journal.append(1, 2, entry(2)).await, Err(AppendError::Fenced)));

    journal.open(ME, 2, entry(0)).await.unwrap();
    journal.script([Fault::ExpireBefore]);
    assert!(matches!(journal.append(2, 1, entry(1)).await, Err(AppendError::Fenced)));
}

#[tokio::test]
async fn late_openings_and_duplicates_change_nothing() {
    let journal = MemoryJournal::new();
    journal.script([Fault::Duplicate, Fault::Duplicate]);
    journal.open(ME, 1, entry(0)).await.unwrap();
    journal.append(1, 1, entry(1)).await.unwrap();
    journal.open(ME, 2, entry(0)).await.unwrap();
    assert_eq!(journal.deliver_late(), 0);
    journal.append(2, 1, entry(1)).await.unwrap();
    let other = journal.open(Identity { broker_id: 1, token: 8 }, 3, entry(0)).await;
    assert!(matches!(other, Err(OpenError::InUse { broker_id: 1 })));
    journal.expire_session(2);
    journal.open(Identity { broker_id: 1, token: 8 }, 4, entry(0)).await.unwrap();
}

#[tokio::test]
async fn readers_meet_truncation_rewind_failure_and_death() {
    let journal = MemoryJournal::new();
    journal.open(ME, 1, entry(0)).await.unwrap();
    for n in 1..10 {
        journal.append(1, n, entry(n)).await.unwrap();
    }
    journal.fail_reads(1);
    assert!(matches!(journal.read(4).await, Err(ReadError::Failed(_))));
    assert_eq!(journal.read(4).await.unwrap().len(), 6);
    journal.truncate_to(5);
    assert!(matches!(journal.read(4).await, Err(ReadError::Truncated { first: 6 })));
    journal.rewind_to(8);
    assert!(matches!(journal.read(9).await, Err(ReadError::Damaged { .. })));
    journal.die();
    assert!(matches!(journal.append(1, 10, entry(10)).await, Err(AppendError::Dead(_))));
    assert!(matches!(journal.read(6).await, Err(ReadError::Failed(_))));
}

#[tokio::test]
async fn a_repetition_after_a_truncation_can_land_again() {
    let journal = MemoryJournal::new();
    journal.forget_truncated();
    journal.open(ME, 1, entry(0)).await.unwrap();
    journal.append(1, 1, entry(1)).await.unwrap();
    let pointer = Pointer { ordinal: 2, truncatable: 2, value: Bytes::new() };
    journal.publish(1, 2, entry(2), pointer).await.unwrap();
    journal.truncate().await.unwrap();
    assert_eq!(journal.append(1, 1, entry(1)).await.unwrap().ordinal, 4);
    assert_eq!(journal.append(1, 3, entry(3)).await.unwrap().ordinal, 5);
    let twice: Vec<u64> = journal.read(2).await.unwrap().iter().map(|record| record.n).collect();
    assert_eq!(twice, [2, 1, 3]);
}
