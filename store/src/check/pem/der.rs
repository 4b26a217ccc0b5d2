//! As much of DER as keys need: one element after the other.
//!
//! Elements are slices of the input; nothing is copied, and nothing recurses.

/// An integer.
pub(super) const INTEGER: u8 = 0x02;
/// Bits.
pub(super) const BIT_STRING: u8 = 0x03;
/// Bytes.
pub(super) const OCTET_STRING: u8 = 0x04;
/// The name of an algorithm or a curve.
pub(super) const OID: u8 = 0x06;
/// Elements in order.
pub(super) const SEQUENCE: u8 = 0x30;
/// The second optional element of a record (`[1]`).
pub(super) const TAGGED_1: u8 = 0xa1;

/// Elements that are still to be read.
#[derive(Clone, Copy)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    /// The tag and the inside of the next element.
    pub(super) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, behind) = rest.split_at_checked(count)?;
            length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            rest = behind;
        }
        let (inside, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, inside))
    }

    /// The inside of the next element, which must have that tag.
    pub(super) fn one(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, inside)| inside)
    }

    /// The elements of the next one, a sequence.
    pub(super) fn sequence(&mut self) -> Option<Self> {
        self.one(SEQUENCE).map(Self)
    }

    /// The next element, an integer, without leading zeros.
    pub(super) fn integer(&mut self) -> Option<&'a [u8]> {
        let digits = self.one(INTEGER)?;
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.get(zeros..)
    }

    /// The bytes of the next element, whole bytes of bits.
    pub(super) fn bits(&mut self) -> Option<&'a [u8]> {
        match self.one(BIT_STRING)?.split_first()? {
            (0, bytes) => Some(bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_end_where_they_say() {
        let mut elements = Elements(&[0x30, 5, 2, 1, 7, 4, 0, 2, 0x81, 1, 9]);
        let mut inside = elements.sequence().expect("a sequence");
        assert_eq!(inside.integer(), Some(&[7][..]));
        assert_eq!(inside.one(OCTET_STRING), Some(&[][..]));
        assert_eq!(inside.any(), None);
        assert_eq!(elements.integer(), Some(&[9][..]));
    }

    #[test]
    fn what_is_cut_off_or_endless_is_nothing() {
        let broken: [&[u8]; 5] = [&[], &[2], &[2, 1], &[2, 0x80, 0], &[2, 0x85, 0, 0, 0, 0, 1, 1]];
        for bytes in broken {
            assert_eq!(Elements(bytes).any(), None, "{bytes:?}");
        }
    }
}
