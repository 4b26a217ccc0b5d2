//! Proofs of the ring: ordinary use, every cut of a producer's stores, and loom.

use super::*;

#[test]
fn what_is_committed_is_taken_in_order() {
    let (mut producer, mut consumer) = anonymous(0, 1).unwrap();
    for round in 0..10_000_u32 {
        let record = round.to_le_bytes().repeat(1 + round as usize % 300);
        let mut slot = producer.reserve(record.len(), 1).unwrap();
        slot.write(&record[..1]);
        slot.write(&record[1..]);
        assert!(slot.commit());
        match consumer.take() {
            Next::Record { bytes, .. } => assert_eq!(bytes, record),
            other => panic!("{other:?}"),
        }
        assert_eq!(consumer.take(), Next::Empty);
        consumer.release();
    }
}
