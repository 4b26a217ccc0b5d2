//! Proofs of the ring: ordinary use, every cut of a producer's stores, and loom.

mod model;
mod tape;

use super::*;

#[track_caller]
fn commit(producer: &mut Producer, record: &[u8]) {
    let mut slot = producer.reserve(record.len(), 1).unwrap();
    slot.write(&record[..record.len() / 2]);
    slot.write(&record[record.len() / 2..]);
    assert!(slot.commit());
}

#[track_caller]
fn expect(consumer: &mut Consumer, record: &[u8]) {
    match consumer.take() {
        Next::Record { bytes, .. } => assert_eq!(bytes, record),
        other => panic!("{other:?}"),
    }
}

/// Different for each number, of any length.
fn record(number: usize) -> Vec<u8> {
    (number as u32).to_le_bytes().repeat(1 + number * 7 % 300)
}

#[test]
fn what_is_committed_is_taken_in_order() {
    let (mut producer, mut consumer) = anonymous(0, 1).unwrap();
    for number in 0..10_000 {
        commit(&mut producer, &record(number));
        expect(&mut consumer, &record(number));
        assert_eq!(consumer.take(), Next::Empty);
        consumer.release();
    }
}

#[test]
fn a_full_ring_refuses_until_something_is_released() {
    let (mut producer, mut consumer) = anonymous(0, 1).unwrap();
    let largest = vec![7; producer.record_bytes_max()];
    commit(&mut producer, &largest);
    commit(&mut producer, &largest);
    assert_eq!(producer.reserve(largest.len(), 3).err(), Some(Refusal::Full));
    assert_eq!(producer.reserve(largest.len() + 1, 2).err(), Some(Refusal::TooLarge));
    expect(&mut consumer, &largest);
    expect(&mut consumer, &largest);
    assert!(producer.reserve(largest.len(), 1).is_err(), "taken is not released");
    consumer.release();
    for _lap in 0..10 {
        commit(&mut producer, &largest);
        expect(&mut consumer, &largest);
        consumer.release();
    }
    let counts = consumer.gauge().counts();
    assert_eq!(counts, Counts { committed: 12, lost_full: 4, lost_large: 2 });
}

#[test]
fn a_slot_that_is_not_filled_leaves_no_trace() {
    let (mut producer, mut consumer) = anonymous(0, 1).unwrap();
    for written in [0, 3, 5] {
        let mut slot = producer.reserve(4, 1).unwrap();
        slot.write(&vec![1; written]);
        assert!(!slot.commit());
    }
    let _abandoned = producer.reserve(4, 1).unwrap();
    assert_eq!(consumer.take(), Next::Empty);
    commit(&mut producer, b"next");
    expect(&mut consumer, b"next");
}

#[test]
fn a_ring_is_found_again_as_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    let (mut producer, mut consumer) = create(&path, RING_BYTES_MIN, 9).unwrap();
    assert!(create(&path, RING_BYTES_MIN, 9).is_err(), "never over another one");
    for number in 0..500 {
        commit(&mut producer, &record(number));
        expect(&mut consumer, &record(number));
        if number % 3 == 0 {
            consumer.release();
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (mut found, version) = open(&path).unwrap();
    assert_eq!(version, 9);
    expect(&mut found, &record(499));
    assert_eq!(found.take(), Next::Empty);
}

#[test]
fn what_is_no_ring_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    let check = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open(&path).err().unwrap()
    };
    assert!(matches!(check(b""), OpenFault::Unfinished));
    assert!(matches!(check(&[0; 8192]), OpenFault::Unfinished));
    assert!(matches!(check(&[1; 8192]), OpenFault::Damaged));
    std::fs::remove_file(&path).unwrap();
    drop(create(&path, 0, 1).unwrap());
    let whole = std::fs::read(&path).unwrap();
    assert!(matches!(check(&whole[..whole.len() - 1]), OpenFault::Damaged));
    let mut other = whole;
    other[8] = 77;
    assert!(matches!(check(&other), OpenFault::UnknownLayout(77)));
}

/// Bytes that no producer wrote: an end, never a panic, and never a record of the wrong length.
#[test]
fn damage_is_an_end_not_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    let (mut producer, _consumer) = create(&path, 0, 1).unwrap();
    (0..20).for_each(|number| commit(&mut producer, &record(number)));
    let whole = std::fs::read(&path).unwrap();
    for at in (4096..4096 + 2_000).step_by(3) {
        for value in [0, 1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            std::fs::write(&path, &bytes).unwrap();
            let (mut consumer, _) = open(&path).unwrap();
            let mut taken = 0;
            while let Next::Record { bytes, .. } = consumer.take() {
                assert_eq!(bytes.len() % 4, 0);
                taken += 1;
            }
            assert!(taken <= 20);
        }
    }
}

#[test]
fn the_bell_rings_at_an_eighth() {
    let (producer, mut consumer) = anonymous(0, 1).unwrap();
    let bell = Arc::new(Bell::new().unwrap());
    let mut producer = producer.with_bell(Arc::clone(&bell));
    let waited = |bell: &Bell| {
        let start = std::time::Instant::now();
        bell.wait(40);
        start.elapsed().as_millis()
    };
    commit(&mut producer, &[1; 4_000]);
    assert!(waited(&bell) >= 40, "not yet");
    commit(&mut producer, &[1; 5_000]);
    assert!(waited(&bell) < 40, "an eighth of 64 KiB is taken");
    expect(&mut consumer, &[1; 4_000]);
    expect(&mut consumer, &[1; 5_000]);
    consumer.release();
    commit(&mut producer, &[1; 1_000]);
    assert!(waited(&bell) >= 40, "there is room again");
}

/// Two threads at full speed through a small ring: nothing torn, nothing out of order.
#[test]
fn a_producer_and_a_consumer_at_once() {
    let (mut producer, mut consumer) = anonymous(0, 1).unwrap();
    let records = 50_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..records {
                let bytes = record(number);
                while producer.reserve(bytes.len(), 0).is_err() {
                    std::thread::yield_now();
                }
                commit(&mut producer, &bytes);
            }
        });
        let mut number = 0;
        while number < records {
            match consumer.take() {
                Next::Record { bytes, .. } => {
                    assert_eq!(bytes, record(number));
                    number += 1;
                    if number % 5 == 0 {
                        consumer.release();
                    }
                }
                Next::Empty => {
                    consumer.release();
                    std::thread::yield_now();
                }
                Next::Broken => panic!("broken at {number}"),
            }
        }
    });
}
