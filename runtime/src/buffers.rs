//! Per-core pool of 16 KiB pages, counted by reference.
//!
//! ```text
//!   pool ──Page::take──► Page (exclusive, grows)  ──freeze──► Piece (shared, read-only) ─clone─►
//!     ▲                   │ drop                               │ drop of the last
//!     └───────────────────┴────────────────────────────────────┘
//! ```
//! Neither taking, freezing, cloning, slicing nor dropping allocates once the pool is warm: a page
//! keeps its reference count in the same allocation as its state, and that travels with it.
//! Everything here is `!Send`: a page belongs to the core that took it.

use smallvec::SmallVec;
use std::cell::RefCell;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// Bytes in a page. Copies of 16 to 32 KiB measured cheapest; larger ones are slower.
pub const PAGE_BYTES: usize = 16 * 1024;

/// Free pages that a core keeps (4 MiB). Pages beyond it go back to the allocator, so that a burst
/// does not stay in memory for ever. It bounds what is *kept*, not what is in use: whoever holds
/// pages (head limits, capture limits, one read in flight per half) bounds those.
pub const POOL_PAGES_MAX: usize = 256;

const _: () = assert!(PAGE_BYTES <= u32::MAX as usize, "a piece counts in u32");

thread_local! {
    static POOL: RefCell<Vec<Rc<Frame>>> = const { RefCell::new(Vec::new()) };
}

/// The memory of one page, or a vector that became a piece.
struct Frame {
    /// As long as a page is where it is one; it never grows.
    bytes: Vec<u8>,
    pooled: bool,
}

impl Frame {
    fn take() -> Rc<Self> {
        let kept = POOL.with(|pool| pool.borrow_mut().pop());
        // Zeroed by the allocator, mostly without touching the memory, and only once per page:
        // what an earlier user left in it is never readable, because `Page` counts what is filled.
        kept.unwrap_or_else(|| Rc::new(Self { bytes: vec![0; PAGE_BYTES], pooled: true }))
    }

    /// Gives the frame back if `frame` is the last that knows it.
    fn release(frame: Rc<Self>) {
        if Rc::strong_count(&frame) > 1 || !frame.pooled {
            return;
        }
        // While a thread ends, its pool may be gone already; the page is then simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOL_PAGES_MAX {
                pool.push(frame);
            }
        });
    }
}

/// Pages that lie free in the pool of this core.
pub fn pool_pages() -> usize {
    POOL.with(|pool| pool.borrow().len())
}

/// One exclusive page: bytes are appended at its end, by hand or by a read.
pub struct Page {
    /// Always there until drop or freeze, and never shared before freeze.
    frame: Option<Rc<Frame>>,
    len: u32,
}

impl Page {
    /// An empty page from this core's pool, or a new one where the pool is empty.
    pub fn take() -> Self {
        Self { frame: Some(Frame::take()), len: 0 }
    }

    /// What has been put in so far.
    pub fn bytes(&self) -> &[u8] {
        let filled = self.frame.as_deref().and_then(|frame| frame.bytes.get(..self.len()));
        filled.unwrap_or_default()
    }

    /// How many bytes have been put in.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing has been put in yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes still fit.
    pub const fn spare_len(&self) -> usize {
        PAGE_BYTES - self.len()
    }

    /// The room behind what has been put in. Its bytes mean nothing until `advance`.
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let start = self.len();
        let frame = self.frame.as_mut().and_then(Rc::get_mut);
        debug_assert!(frame.is_some(), "a page was shared before it was frozen");
        frame.and_then(|frame| frame.bytes.get_mut(start..)).unwrap_or_default()
    }

    /// Counts `count` bytes of the spare room as put in; at most all of it.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.spare_len(), "more was filled than there is");
        // The sum is at most PAGE_BYTES, which fits (asserted above).
        self.len += count.min(self.spare_len()) as u32;
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn extend(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.spare_len());
        let from = bytes.get(..count).unwrap_or_default();
        if let Some(room) = self.spare_mut().get_mut(..count) {
            room.copy_from_slice(from);
        }
        self.advance(count);
        count
    }

    /// Forgets what has been put in and keeps the page.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Throws away the first `count` bytes (at most all) and moves the rest to the front.
    pub fn consume(&mut self, count: usize) {
        let (count, len) = (count.min(self.len()), self.len());
        if let Some(frame) = self.frame.as_mut().and_then(Rc::get_mut)
            && count > 0
        {
            frame.bytes.copy_within(count..len, 0);
        }
        self.len -= count as u32;
    }

    /// Makes it readable only, so that it can be shared and sliced. Allocates nothing.
    pub fn freeze(mut self) -> Piece {
        let end = self.len;
        let backing = self.frame.take().map_or(Backing::Fixed(&[]), Backing::Frame);
        Piece { backing, start: 0, end }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            Frame::release(frame);
        }
    }
}

impl std::fmt::Debug for Page {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Page({} of {PAGE_BYTES} bytes)", self.len)
    }
}

/// Where the bytes of a piece live.
#[derive(Clone)]
enum Backing {
    Frame(Rc<Frame>),
    Fixed(&'static [u8]),
}

/// Some bytes that several may read: a part of a frozen page, of a vector, or of the program.
///
/// Cloning and slicing cost one count on this core. The page returns to the pool with the last.
#[derive(Clone)]
pub struct Piece {
    backing: Backing,
    start: u32,
    end: u32,
}

/// What a writer writes with one call: usually a head and a body, without an allocation.
pub type Pages = SmallVec<[Piece; 4]>;

impl Piece {
    /// A piece without bytes.
    pub const fn empty() -> Self {
        Self { backing: Backing::Fixed(&[]), start: 0, end: 0 }
    }

    /// Bytes of the program itself; never copied.
    ///
    /// Only the first 4 GiB count, as everywhere in a piece.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self { backing: Backing::Fixed(bytes), start: 0, end: capped(bytes.len()) }
    }

    /// Takes over a vector; for what is made at once and is larger than a page, or rare.
    ///
    /// Only the first 4 GiB count, as everywhere in a piece.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let end = capped(bytes.len());
        Self { backing: Backing::Frame(Rc::new(Frame { bytes, pooled: false })), start: 0, end }
    }

    /// Copies `bytes` into a pool page, or into a vector where they do not fit into one.
    pub fn copy_of(bytes: &[u8]) -> Self {
        if bytes.len() > PAGE_BYTES {
            return Self::from_vec(bytes.to_vec());
        }
        let mut page = Page::take();
        page.extend(bytes);
        page.freeze()
    }

    /// How many bytes it has.
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// A part of it, sharing the memory. What lies outside is left out.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let mut part = self.clone();
        part.keep(range);
        part
    }

    /// Keeps only `range` of it. What lies outside is left out.
    pub fn keep(&mut self, range: Range<usize>) {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        // Both are at most `len`, so the sums stay below the old end.
        self.end = self.start + end as u32;
        self.start += start as u32;
        if self.is_empty() {
            // What is used up must not hold a page: idle connections keep such pieces.
            *self = Self::empty();
        }
    }

    /// Gives back the first `count` bytes (at most all) and keeps the rest.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        let first = self.slice(0..count);
        self.advance(count);
        first
    }

    /// Lets go of the first `count` bytes (at most all).
    pub fn advance(&mut self, count: usize) {
        self.keep(count..self.len());
    }
}

const fn capped(len: usize) -> u32 {
    if len > u32::MAX as usize { u32::MAX } else { len as u32 }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.backing {
            Backing::Frame(frame) => &frame.bytes,
            Backing::Fixed(bytes) => bytes,
        };
        all.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Backing::Frame(frame) = std::mem::replace(&mut self.backing, Backing::Fixed(&[])) {
            Frame::release(frame);
        }
    }
}

impl Default for Piece {
    fn default() -> Self {
        Self::empty()
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Piece({:?})", self.escape_ascii().to_string())
    }
}

/// The sum of the lengths of `pages`.
pub fn total_len(pages: &[Piece]) -> usize {
    pages.iter().map(Piece::len).sum()
}

/// Lets go of the first `count` bytes of `pages`, whole pieces included.
pub fn advance(pages: &mut Pages, count: usize) {
    let mut left = count;
    let mut whole = 0;
    for piece in pages.iter_mut() {
        if piece.len() > left {
            piece.advance(left);
            break;
        }
        left -= piece.len();
        whole += 1;
    }
    pages.drain(..whole);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_grows_and_stops_at_its_end() {
        let mut page = Page::take();
        assert_eq!((page.len(), page.spare_len(), page.is_empty()), (0, PAGE_BYTES, true));
        assert_eq!(page.extend(b"head"), 4);
        page.spare_mut()[..2].copy_from_slice(b"ab");
        page.advance(2);
        assert_eq!(page.bytes(), b"headab");
        assert_eq!(page.extend(&[7; PAGE_BYTES]), PAGE_BYTES - 6);
        assert_eq!((page.spare_len(), page.extend(b"x")), (0, 0));
        page.consume(PAGE_BYTES - 3);
        assert_eq!(page.bytes(), [7; 3]);
    }

    #[test]
    fn what_an_earlier_user_left_is_not_readable() {
        let mut page = Page::take();
        page.extend(b"secret");
        drop(page);
        assert_eq!(Page::take().bytes(), b"");
        assert_eq!(Page::take().freeze().len(), 0);
    }

    #[test]
    fn a_page_returns_with_its_last_piece_and_is_used_again() {
        let before = pool_pages();
        let mut page = Page::take();
        page.extend(b"0123456789");
        let piece = page.freeze();
        let part = piece.slice(2..5);
        drop(piece);
        assert_eq!(&*part, b"234");
        let kept = pool_pages();
        drop(part);
        assert_eq!(pool_pages(), kept + 1);
        assert!(pool_pages() >= before);
        let _page = Page::take();
        assert_eq!(pool_pages(), kept);
    }

    #[test]
    fn a_piece_that_is_used_up_holds_no_page() {
        let mut page = Page::take();
        page.extend(b"0123456789");
        let mut piece = page.freeze();
        let kept = pool_pages();
        let head = piece.split_to(10);
        drop(head);
        assert_eq!(pool_pages(), kept + 1);
        assert!(piece.is_empty());
    }

    #[test]
    fn the_pool_keeps_at_most_its_bound() {
        let pages: Vec<Page> = (0..POOL_PAGES_MAX + 10).map(|_| Page::take()).collect();
        drop(pages);
        assert_eq!(pool_pages(), POOL_PAGES_MAX);
    }

    #[test]
    fn a_piece_is_small_and_so_is_a_page() {
        // They travel by value, several at once.
        assert!(size_of::<Piece>() <= 24 && size_of::<Page>() <= 16);
        assert!(size_of::<Pages>() <= 112);
    }

    #[test]
    fn advancing_crosses_pieces() {
        let mut pages = Pages::new();
        pages.extend([Piece::copy_of(b"abc"), Piece::empty(), Piece::from_static(b"defg")]);
        assert_eq!(total_len(&pages), 7);
        advance(&mut pages, 4);
        assert_eq!(pages.iter().map(|piece| piece.to_vec()).collect::<Vec<_>>(), [b"efg"]);
        advance(&mut pages, 99);
        assert!(pages.is_empty());
    }

    proptest! {
        /// Every way to cut a piece gives what the same cuts of a slice give.
        #[test]
        fn cuts_agree_with_slices(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            cuts in proptest::collection::vec((0usize..700, 0usize..700), 0..8),
            vector: bool,
        ) {
            let whole = bytes.clone();
            let mut model = whole.as_slice();
            let mut piece =
                if vector { Piece::from_vec(bytes) } else { Piece::copy_of(&bytes) };
            for (from, to) in cuts {
                let end = to.min(model.len());
                let start = from.min(end);
                prop_assert_eq!(&*piece.slice(from..to), &model[start..end]);
                let split = from.min(model.len()) / 3;
                prop_assert_eq!(&*piece.split_to(split), &model[..split]);
                model = &model[split..];
                prop_assert_eq!(&*piece, model);
            }
        }
    }
}
