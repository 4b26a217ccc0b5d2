//! Chunked bodies, read slowly and to the letter of RFC 9112, section 7.1, with CRLF alone as a
//! line's end.

use runtime::http::body::{CHUNK_DIGITS_MAX, EXTENSION_BYTES_MAX, LENGTH_MAX, TRAILER_BYTES_MAX};

use super::head::Reading;

/// Why a part of the grammar was not found.
enum Stop {
    Partial,
    Refused,
}

/// Where the reader is.
struct Reader<'b> {
    rest: &'b [u8],
    extension_bytes: usize,
    trailer_bytes: usize,
}

pub(crate) fn read(bytes: &[u8]) -> Reading<Vec<u8>> {
    let mut reader = Reader { rest: bytes, extension_bytes: 0, trailer_bytes: 0 };
    match reader.body() {
        Ok(content) => Reading::Whole(bytes.len() - reader.rest.len(), content),
        Err(Stop::Partial) => Reading::Partial,
        Err(Stop::Refused) => Reading::Refused,
    }
}

impl Reader<'_> {
    fn body(&mut self) -> Result<Vec<u8>, Stop> {
        let mut content = Vec::new();
        loop {
            let size = self.size()?;
            self.extension()?;
            self.line_end()?;
            if size == 0 {
                break;
            }
            let size = usize::try_from(size).map_err(|_| Stop::Partial)?;
            let data = self.rest.get(..size).ok_or(Stop::Partial)?;
            content.extend_from_slice(data);
            self.rest = &self.rest[size..];
            self.line_end()?;
        }
        while self.peek()? != b'\r' {
            self.trailer()?;
        }
        self.line_end()?;
        Ok(content)
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.rest.first().copied().ok_or(Stop::Partial)
    }

    /// Takes one byte that `fits`.
    fn one(&mut self, fits: impl Fn(u8) -> bool) -> Result<u8, Stop> {
        let byte = self.peek()?;
        if !fits(byte) {
            return Err(Stop::Refused);
        }
        self.rest = &self.rest[1..];
        Ok(byte)
    }

    fn line_end(&mut self) -> Result<(), Stop> {
        self.one(|byte| byte == b'\r')?;
        self.one(|byte| byte == b'\n').map(drop)
    }

    fn size(&mut self) -> Result<u64, Stop> {
        let (mut size, mut digits) = (0_u128, 0);
        while digits == 0 || self.peek()?.is_ascii_hexdigit() {
            let digit = self.one(|byte| byte.is_ascii_hexdigit())?;
            size = size * 16 + u128::from((digit as char).to_digit(16).unwrap());
            digits += 1;
            if digits > usize::from(CHUNK_DIGITS_MAX) || size > u128::from(LENGTH_MAX) {
                return Err(Stop::Refused);
            }
        }
        Ok(size as u64)
    }

    /// Blanks, then what stands behind a semicolon; all of it counts.
    fn extension(&mut self) -> Result<(), Stop> {
        while matches!(self.peek()?, b' ' | b'\t') {
            self.count_extension()?;
        }
        if self.peek()? == b';' {
            while self.peek()? != b'\r' {
                self.count_extension()?;
            }
        }
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), Stop> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX as usize {
            return Err(Stop::Refused);
        }
        self.one(is_text).map(drop)
    }

    fn trailer(&mut self) -> Result<(), Stop> {
        let mut first = true;
        while first || self.peek()? != b'\r' {
            self.trailer_bytes += 1;
            if self.trailer_bytes > TRAILER_BYTES_MAX as usize {
                return Err(Stop::Refused);
            }
            self.one(|byte| if first { matches!(byte, b'!'..=b'~') } else { is_text(byte) })?;
            first = false;
        }
        self.line_end()
    }
}

const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
