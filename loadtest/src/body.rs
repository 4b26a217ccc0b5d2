//! Where a message body ends.

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks, in this state.
    Chunked(Chunk),
    /// Everything until the connection closes.
    UntilClose,
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// In the line with the length, of which the digits so far say this.
    Size(u64),
    /// In an extension after the length.
    Extension(u64),
    /// So many bytes before the end of a chunk.
    Bytes(u64),
    /// In the line break after a chunk.
    Break,
    /// In the trailers; so many bytes of the line are known.
    Trailer(u64),
}

/// A chunk size that is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadChunk;

impl Body {
    /// The body that the header lines of a message announce.
    ///
    /// `None` where neither a length nor chunks are announced. Takes names in any case.
    pub fn announced(headers: &[httparse::Header<'_>]) -> Option<Self> {
        let mut length = None;
        for header in headers {
            if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Some(Self::Chunked(Chunk::Size(0)));
            }
            if header.name.eq_ignore_ascii_case("content-length") {
                length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
            }
        }
        length.map(Self::Length)
    }

    /// Whether nothing is to come.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }

    /// Takes what belongs to the body from the front of `bytes`: how many they are.
    ///
    /// # Errors
    /// [`BadChunk`] when a chunk's length cannot be read.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        match self {
            Self::None => Ok(0),
            Self::UntilClose => Ok(bytes.len()),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunk) => {
                let mut at = 0;
                while at < bytes.len() {
                    match chunk.step(&bytes[at..])? {
                        Some(used) => at += used,
                        None => {
                            *self = Self::None;
                            return Ok(at + 1);
                        }
                    }
                }
                Ok(at)
            }
        }
    }
}

impl Chunk {
    /// Takes at least one byte; `None` when that byte ended the body.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadChunk> {
        let byte = bytes[0];
        *self = match *self {
            Self::Bytes(left) => {
                let taken = (bytes.len() as u64).min(left);
                *self = if taken == left { Self::Break } else { Self::Bytes(left - taken) };
                return Ok(Some(taken as usize));
            }
            Self::Size(size) => match (byte as char).to_digit(16) {
                Some(digit) => {
                    let grown = size.checked_mul(16).ok_or(BadChunk)?;
                    Self::Size(grown + u64::from(digit))
                }
                None if byte == b'\r' || byte == b';' => Self::Extension(size),
                None => return Err(BadChunk),
            },
            Self::Extension(0) if byte == b'\n' => Self::Trailer(0),
            Self::Extension(size) if byte == b'\n' => Self::Bytes(size),
            Self::Extension(size) => Self::Extension(size),
            Self::Break if byte == b'\n' => Self::Size(0),
            Self::Break => Self::Break,
            Self::Trailer(0) if byte == b'\n' => return Ok(None),
            Self::Trailer(_) if byte == b'\n' => Self::Trailer(0),
            Self::Trailer(len) if byte == b'\r' => Self::Trailer(len),
            Self::Trailer(len) => Self::Trailer(len + 1),
        };
        Ok(Some(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` whole and byte by byte: how many belong to the body, and whether it is over.
    #[track_caller]
    fn check(body: Body, bytes: &str, expected: usize, over: bool) {
        let mut whole = body;
        assert_eq!((whole.take(bytes.as_bytes()), whole.is_over()), (Ok(expected), over));
        let mut slow = body;
        let mut taken = 0;
        for byte in bytes.bytes() {
            taken += slow.take(&[byte]).unwrap();
            if slow.is_over() {
                break;
            }
        }
        assert_eq!((taken, slow.is_over()), (expected, over), "byte by byte");
    }

    #[test]
    fn bodies_end_where_they_should() {
        let chunked = Body::Chunked(Chunk::Size(0));
        check(Body::Length(3), "abcdef", 3, true);
        check(Body::Length(9), "abcdef", 6, false);
        check(Body::UntilClose, "abc", 3, false);
        check(chunked, "3\r\nabc\r\n0\r\n\r\nHTTP", 13, true);
        check(chunked, "1;x=y\r\na\r\n0\r\nA: b\r\n\r\n", 21, true);
        check(chunked, "a\r\n0123456789\r\n", 15, false);
        assert_eq!(Body::Chunked(Chunk::Size(0)).take(b"x\r\n"), Err(BadChunk));
    }
}
