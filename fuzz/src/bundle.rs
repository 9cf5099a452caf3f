//! The target of record objects: the bundle reader, and everything that its index promises.

use bytes::Bytes;
use kafscale_log::segment::{BundleReader, Footer, SegmentError, TRAILER_BYTES, open};
use kafscale_wire::records::split;

use crate::outcome::{Outcome, Way};
use crate::repair;

/// A byte of flags (1: checksums are made right), then an object.
pub fn bundle(input: &[u8]) -> Outcome {
    let mut way = Way::default();
    let Some((flags, object)) = input.split_first() else { return way.refused(&"short") };
    let mut object = object.to_vec();
    if flags & 1 != 0 {
        repair::bundle(&mut object);
    }
    let object = Bytes::from(object);
    way.found(&Footer::parse(&object, object.len() as u64).map(|footer| footer.sections.len()));
    let reader = match open(&object) {
        Ok(reader) => reader,
        Err(error) => return way.refused(&error),
    };
    tails(&object, &reader);
    for (number, index) in reader.sections().iter().enumerate() {
        let (start, end) = (u64::from(index.position), index.end());
        assert_eq!(reader.footer().section_of(start, end).map(|(found, _)| found), Some(number));
        assert!(index.sparse.iter().all(|s| (start..end).contains(&s.position.into())));
        let section = reader.section(number);
        assert_eq!(section, &object[start as usize..end as usize]);
        let checked = reader.checked_section(number);
        assert!(checked.as_ref().is_ok_and(|bytes| *bytes == section) || checked.is_err());
        way.found(&(checked.is_ok(), index.sparse.is_empty()));
        split(section).for_each(|batch| way.found(&batch.map(|batch| batch.codec())));
    }
    way.accepted(&"bundle")
}

/// A reader of the tail alone learns the same, or how much of a tail it needs.
fn tails(object: &Bytes, reader: &BundleReader) {
    let whole = object.len() as u64;
    let tail = |bytes: u64| Footer::parse(&object[(whole - bytes) as usize..], whole);
    let least = TRAILER_BYTES as u64;
    assert_eq!(tail(least - 1), Err(SegmentError::Short { needed: least, given: least - 1 }));
    match tail(least) {
        Ok(footer) => assert_eq!(&footer, reader.footer()),
        Err(SegmentError::Short { needed, given }) => {
            assert!(given == least && needed > given && needed <= whole, "{needed} of {whole}");
            assert_eq!(tail(needed - 1), Err(SegmentError::Short { needed, given: needed - 1 }));
            assert_eq!(tail(needed).as_ref(), Ok(reader.footer()));
        }
        Err(error) => panic!("the whole can be read, and its tail cannot: {error}"),
    }
}
