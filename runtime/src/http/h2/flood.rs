//! Frames that make work and carry nothing: counted, so that a flood of them ends the connection.
//!
//! h2 answers PING and SETTINGS and reads PRIORITY, WINDOW_UPDATE and empty frames for as long as
//! they come. Each takes one of a budget here; requests, bodies and our own DATA frames give some
//! back, and so does time. An honest client never comes near the end of it: it updates windows for
//! what it was sent, and pings now and then.

use crate::clock;

/// Bytes before a frame's payload.
const HEADER_BYTES: usize = 9;
/// The budget of a connection, in frames.
pub(super) const FRAMES_MAX: u32 = 1_000;
/// What one second gives back.
const FRAMES_PER_S: u64 = 50;
/// What a request, or a DATA frame of ours, gives back: both windows may be updated for it.
const FRAMES_PER_ANSWER: u32 = 4;
/// What a DATA frame of the client's gives back.
const FRAMES_PER_DATA: u32 = 2;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const FLAG_ACK: u8 = 1;
const FLAG_END_STREAM: u8 = 1;

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
    pub(super) fn new() -> Self {
        Self {
            arriving: Scan::new(super::PREFACE.len()),
            leaving: Scan::new(0),
            left: FRAMES_MAX,
            renewed_us: clock::now_us(),
        }
    }

    /// Whether the budget is used up.
    pub(super) const fn is_flooded(&self) -> bool {
        self.left == 0
    }

    /// Looks at what came in.
    pub(super) fn arrived(&mut self, bytes: &[u8]) {
        self.renew();
        self.look(Way::In, bytes);
    }

    /// Looks at what goes out.
    pub(super) fn leaves(&mut self, bytes: &[u8]) {
        self.look(Way::Out, bytes);
    }

    fn look(&mut self, way: Way, mut bytes: &[u8]) {
        // Once it is used up it stays so: where frames begin is no longer followed.
        while !bytes.is_empty() && self.left > 0 {
            let scan = if way == Way::In { &mut self.arriving } else { &mut self.leaving };
            let Some((length, kind, flags)) = scan.next(&mut bytes) else { continue };
            let back = match (way, kind) {
                (Way::In, HEADERS) => FRAMES_PER_ANSWER,
                (Way::In, DATA) if length > 0 => FRAMES_PER_DATA,
                (Way::In, DATA) if flags & FLAG_END_STREAM != 0 => 0,
                // Ours to be acknowledged are few.
                (Way::In, SETTINGS) if flags & FLAG_ACK != 0 => 0,
                (Way::Out, DATA) if length > 0 => FRAMES_PER_ANSWER,
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
    fn renew(&mut self) {
        let now_us = clock::now_us();
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
            let mut watch = Watch::new();
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
        let mut watch = Watch::new();
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
}
