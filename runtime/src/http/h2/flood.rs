//! Frames that make work and carry nothing: counted, so that a flood of them ends the connection.
//!
//! h2 answers PING and SETTINGS and reads PRIORITY, WINDOW_UPDATE and empty frames for as long as
//! they come. Each takes one of a budget here; requests, bodies and our own DATA frames give some
//! back, and so does time. An honest client never comes near the end of it: it updates windows for
//! what it was sent, and pings now and then.
//!
//! Small DATA frames are counted for [`super::intake`], here because it is here that frames are
//! seen.

use super::intake::Crowd;
use crate::clock;
use std::rc::Rc;

/// Bytes before a frame's payload.
const HEADER_BYTES: usize = 9;
/// The budget of a connection, in frames.
pub(super) const FRAMES_MAX: u32 = 1_000;
/// What one second gives back.
const FRAMES_PER_S: u64 = 50;
/// What a request, or a DATA frame of ours, gives back: both windows may be updated for it.
const FRAMES_PER_ANSWER: u32 = 4;
/// So many bytes in a DATA frame of ours give back one more: Go's client, for one, updates both
/// windows after every 4 KiB that its user reads.
const BYTES_PER_FRAME: usize = 256;
/// What a DATA frame of the client's gives back.
const FRAMES_PER_DATA: u32 = 2;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const FLAG_ACK: u8 = 1;
const FLAG_END_STREAM: u8 = 1;
const FLAG_PADDED: u8 = 8;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// The frames of one connection, seen as bytes on their way.
pub(super) struct Watch {
    arriving: Scan,
    leaving: Scan,
    left: u32,
    renewed_us: u64,
    /// The peer is the server: what it sends was asked for.
    trusting: bool,
    crowd: Rc<Crowd>,
}

/// Where frames begin in one direction.
struct Scan {
    header: [u8; HEADER_BYTES],
    have: usize,
    skip: usize,
}

impl Scan {
    const fn new(skip: usize) -> Self {
        Self { header: [0; HEADER_BYTES], have: 0, skip }
    }

    /// The next header that is whole; what is left of `bytes` stays in it.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<(usize, u8, u8)> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = bytes.get(skipped..).unwrap_or_default();
        let part = bytes.len().min(HEADER_BYTES - self.have);
        if part == 0 {
            return None;
        }
        let (head, rest) = bytes.split_at(part);
        if let Some(room) = self.header.get_mut(self.have..self.have + part) {
            room.copy_from_slice(head);
        }
        *bytes = rest;
        self.have += part;
        if self.have < HEADER_BYTES {
            return None;
        }
        self.have = 0;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
        Some((self.skip, kind, flags))
    }
}

impl Watch {
    /// A server's connection that begins with the client's preface.
    pub(super) fn of_client(crowd: Rc<Crowd>) -> Self {
        let arriving = Scan::new(super::PREFACE.len());
        let (leaving, renewed_us) = (Scan::new(0), clock::now_us());
        Self { arriving, leaving, left: FRAMES_MAX, renewed_us, trusting: false, crowd }
    }

    /// A client's connection: only small frames are counted.
    pub(super) fn of_server(crowd: Rc<Crowd>) -> Self {
        Self { arriving: Scan::new(0), trusting: true, ..Self::of_client(crowd) }
    }

    /// How much may be read at once.
    pub(super) fn part_bytes_max(&self) -> usize {
        self.crowd.part_bytes_max()
    }

    /// Whether so many small frames have come in that they must be gathered before more is read.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowd.is_full()
    }

    /// Whether the budget is used up.
    pub(super) const fn is_flooded(&self) -> bool {
        self.left == 0
    }

    /// Looks at what came in.
    pub(super) fn arrived(&mut self, bytes: &[u8]) {
        let now_us = clock::now_us();
        self.crowd.hear(now_us);
        self.renew(now_us);
        self.look(Way::In, bytes);
    }

    /// Looks at what goes out.
    pub(super) fn leaves(&mut self, bytes: &[u8]) {
        if !self.trusting {
            self.look(Way::Out, bytes);
        }
    }

    fn look(&mut self, way: Way, mut bytes: &[u8]) {
        // Once it is used up it stays so: where frames begin is no longer followed.
        while !bytes.is_empty() && self.left > 0 {
            let scan = if way == Way::In { &mut self.arriving } else { &mut self.leaving };
            let Some((length, kind, flags)) = scan.next(&mut bytes) else { continue };
            if way == Way::In && kind == DATA {
                // Padding is no payload, and how much there is of it is not looked at.
                self.crowd.came(if flags & FLAG_PADDED == 0 { length } else { 1 });
            }
            let back = match (way, kind) {
                _ if self.trusting => 0,
                (Way::In, HEADERS) => FRAMES_PER_ANSWER,
                (Way::In, DATA) if length > 0 => FRAMES_PER_DATA,
                (Way::In, DATA) if flags & FLAG_END_STREAM != 0 => 0,
                // Ours to be acknowledged are few.
                (Way::In, SETTINGS) if flags & FLAG_ACK != 0 => 0,
                (Way::Out, DATA) if length > 0 => {
                    // A frame has at most 24 bits of length.
                    FRAMES_PER_ANSWER + (length / BYTES_PER_FRAME) as u32
                }
                (Way::Out, _) => 0,
                (Way::In, _) => {
                    self.left -= 1;
                    0
                }
            };
            if self.left > 0 {
                self.left = (self.left + back).min(FRAMES_MAX);
            }
        }
    }

    /// Gives back what time does; what it does not is kept for the next look.
    fn renew(&mut self, now_us: u64) {
        let frames = now_us.saturating_sub(self.renewed_us) * FRAMES_PER_S / 1_000_000;
        if frames > 0 && self.left > 0 {
            self.renewed_us = now_us;
            let frames = u32::try_from(frames).unwrap_or(FRAMES_MAX);
            self.left = self.left.saturating_add(frames).min(FRAMES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let head = (length as u32).to_be_bytes();
        let head = [&head[1..], &[kind, flags, 0, 0, 0, 1]].concat();
        [head, vec![7; length]].concat()
    }

    /// The budget after these frames of the client's, cut anywhere.
    #[track_caller]
    fn check(frames: &[(u8, u8, usize)], times: usize, left: u32) {
        let all: Vec<u8> =
            frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
        let all = [super::super::PREFACE, &all.repeat(times)].concat();
        for cut in [1, 2, 5, 8, 9, 10, 24, 100, 16_384] {
            let mut watch = Watch::of_client(Rc::default());
            all.chunks(cut).for_each(|part| watch.look(Way::In, part));
            assert_eq!(watch.left, left, "{frames:?}, cut by {cut}");
            assert_eq!(watch.is_flooded(), left == 0);
        }
    }

    #[test]
    fn floods_use_the_budget_up_and_honest_frames_do_not() {
        let [ping, window_update, priority, continuation] = [6, 8, 2, 9];
        check(&[], 1, FRAMES_MAX);
        check(&[(ping, 0, 8)], 10, FRAMES_MAX - 10);
        for kind in [priority, ping, window_update, continuation, SETTINGS, 77] {
            check(&[(kind, 0, 5)], 2_000, 0);
        }
        check(&[(DATA, 0, 0)], 2_000, 0);
        check(&[(DATA, FLAG_END_STREAM, 0)], 2_000, FRAMES_MAX);
        check(&[(SETTINGS, FLAG_ACK, 0)], 2_000, FRAMES_MAX);
        check(&[(HEADERS, 0, 30), (window_update, 0, 4), (priority, 0, 5)], 2_000, FRAMES_MAX - 2);
        check(&[(ping, 0, 8), (DATA, 0, 9)], 2_000, FRAMES_MAX);
        check(&[(ping, 0, 8); 12], 400, 0);
    }

    #[test]
    fn what_we_send_and_time_give_frames_back() {
        let mut watch = Watch::of_client(Rc::default());
        watch.look(Way::In, super::super::PREFACE);
        watch.look(Way::In, &frame(8, 0, 4).repeat(900));
        assert_eq!(watch.left, FRAMES_MAX - 900);
        watch.leaves(&frame(DATA, 0, 10).repeat(100));
        watch.leaves(&frame(HEADERS, 0, 10).repeat(100));
        assert_eq!(watch.left, FRAMES_MAX - 500);
        clock::begin_virtual(5_000_000, 5_000_000);
        watch.renewed_us = 1_000_000;
        watch.arrived(&[]);
        assert_eq!(watch.left, FRAMES_MAX - 300);
        clock::end();
    }

    #[test]
    fn a_client_that_updates_windows_after_every_few_bytes_is_honest() {
        let mut watch = Watch::of_client(Rc::default());
        watch.look(Way::In, super::super::PREFACE);
        for _ in 0..10_000 {
            // 16 KiB, for which it updates both windows, 1 KiB at a time.
            watch.leaves(&frame(DATA, 0, 16_384));
            watch.look(Way::In, &frame(8, 0, 4).repeat(32));
        }
        assert!(watch.left > FRAMES_MAX / 2, "{}", watch.left);
    }

    #[test]
    fn small_frames_are_counted_on_both_sides() {
        for watch in [Watch::of_client, Watch::of_server] {
            let crowd = Rc::new(Crowd::default());
            let mut watch = watch(Rc::clone(&crowd));
            if !watch.trusting {
                watch.look(Way::In, super::super::PREFACE);
            }
            watch.look(Way::In, &frame(DATA, 0, 9).repeat(20));
            watch.look(Way::In, &frame(DATA, FLAG_PADDED, 900));
            watch.look(Way::In, &frame(DATA, 0, 900));
            watch.look(Way::In, &frame(DATA, 0, 0));
            watch.look(Way::In, &frame(6, 0, 8).repeat(20));
            assert_eq!(crowd.small_frames(), 21);
            assert_eq!(watch.left == FRAMES_MAX, watch.trusting, "{}", watch.left);
        }
    }
}
