//! One event in a segment: a fixed head with a checksum, then the event's JSON text.

/// Bytes in front of each event.
pub const HEAD_BYTES: usize = 48;
/// Longest event text that an entry may hold; what claims more is damage.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// Where an event came from and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the event's text.
    pub len: u32,
    /// The record's position in its ring.
    pub position: u64,
    /// The record's end time, microseconds since 1970.
    pub at_us: u64,
    /// The exchange's id.
    pub transaction_id: [u8; 16],
    /// The ring.
    pub core: u16,
    /// Which of the record's rows this event is for.
    pub part: u8,
}

impl Head {
    /// What orders the events of one generation and destination within one ring.
    pub const fn origin(&self) -> (u64, u8) {
        (self.position, self.part)
    }
}

/// Appends an entry whose text `write` appends; `head.len` is ignored. Gives the text's length.
pub fn push(out: &mut Vec<u8>, head: &Head, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
    let start = out.len();
    out.resize(start + HEAD_BYTES, 0);
    write(out);
    let len = (out.len() - start - HEAD_BYTES) as u32;
    let mut bytes = [0_u8; HEAD_BYTES];
    fill(
        &mut bytes,
        &[
            &len.to_le_bytes(),
            &[0; 4],
            &head.position.to_le_bytes(),
            &head.at_us.to_le_bytes(),
            &head.transaction_id,
            &head.core.to_le_bytes(),
            &[head.part],
        ],
    );
    let text = out.get(start + HEAD_BYTES..).unwrap_or_default();
    let sum = checksum(&bytes, text);
    fill(&mut bytes, &[&len.to_le_bytes(), &sum.to_le_bytes()]);
    if let Some(place) = out.get_mut(start..start + HEAD_BYTES) {
        place.copy_from_slice(&bytes);
    }
    len
}

/// Writes fields one behind the other into the beginning of `bytes`.
pub(super) fn fill(bytes: &mut [u8], fields: &[&[u8]]) {
    let places = bytes.iter_mut();
    places.zip(fields.iter().copied().flatten()).for_each(|(place, byte)| *place = *byte);
}

/// Reads the entry at the beginning of `bytes`; `None` if it is torn or damaged.
pub fn read(bytes: &[u8]) -> Option<Head> {
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
    let len = u32::from_le_bytes(*head.first_chunk()?);
    if len as usize > TEXT_BYTES_MAX {
        return None;
    }
    let text = bytes.get(HEAD_BYTES..HEAD_BYTES + len as usize)?;
    let sum = u32::from_le_bytes(*head.get(4..)?.first_chunk()?);
    if sum != checksum(head, text) {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
    Some(Head {
        len,
        position: number(8)?,
        at_us: number(16)?,
        transaction_id: *head.get(24..)?.first_chunk()?,
        core: u16::from_le_bytes(*head.get(40..)?.first_chunk()?),
        part: *head.get(42)?,
    })
}

/// Over everything but the checksum itself.
fn checksum(head: &[u8; HEAD_BYTES], text: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head.get(..4).unwrap_or_default());
    hasher.update(head.get(8..).unwrap_or_default());
    hasher.update(text);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_whole_or_not_at_all() {
        let head = Head {
            len: 0,
            position: 1 << 40,
            at_us: 5,
            transaction_id: [9; 16],
            core: 300,
            part: 3,
        };
        let mut bytes = Vec::new();
        let len = push(&mut bytes, &head, |out| out.extend_from_slice(b"{\"a\":1}"));
        assert_eq!((len, bytes.len()), (7, HEAD_BYTES + 7));
        assert_eq!(read(&bytes), Some(Head { len: 7, ..head }));
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), None, "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            // The padding is covered, too.
            assert_eq!(read(&damaged), None, "byte {at}");
        }
    }
}
