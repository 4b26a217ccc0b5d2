//! What can be wrong with a head, and what nginx answers.

use super::{Limits, of_line};
use httparse::Error;
use std::fmt;

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadFault {
    /// Not `METHOD target HTTP/1.x`; HTTP/0.9 too.
    RequestLine,
    /// The method is not made of `A-Z`, `-` and `_`.
    Method,
    /// CONNECT: this is no forward proxy.
    Connect,
    /// TRACE.
    Trace,
    /// Neither a path nor `http://host…`; `*` too.
    TargetForm,
    /// A `%` without two hex digits, or `%00`.
    TargetEscape,
    /// More `..` than folders.
    TargetAboveRoot,
    /// An absolute target whose host is missing, bad, or carries a user name.
    TargetHost,
    /// A well-formed version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// The request line (or status line) is longer than `request_line_bytes_max`.
    LineTooLong,
    /// A header line is longer than `header_line_bytes_max`.
    FieldTooLong,
    /// The head is larger than `head_bytes_max`.
    HeadTooLarge,
    /// More lines than `headers_max`.
    TooManyFields,
    /// A byte in a name that is not of a token, a space before the colon, or no colon.
    FieldName,
    /// A control byte in a value.
    FieldValue,
    /// A header line continued on the next one.
    Folded,
    /// A CR without LF.
    LineEnd,
    /// `Content_Length` or `Transfer_Encoding`.
    Disguised,
    /// HTTP/1.1 without Host.
    HostMissing,
    /// Two Host lines.
    HostRepeated,
    /// Host is empty or not a host with an optional port.
    HostBad,
    /// Two Content-Length lines, equal ones too.
    LengthRepeated,
    /// Content-Length is not a plain number up to 2^63 - 1.
    LengthBad,
    /// Content-Length and Transfer-Encoding together.
    LengthAndCoding,
    /// Two Transfer-Encoding lines.
    CodingRepeated,
    /// A Transfer-Encoding other than exactly `chunked`.
    CodingUnknown,
    /// Transfer-Encoding in HTTP/1.0.
    CodingTooOld,
    /// Not `HTTP/1.x 200 …`; responses only.
    StatusLine,
}

impl HeadFault {
    /// The status that the client gets for its request: 400, 405, 414, 501 or 505.
    ///
    /// A fault in an upstream's response is a 502 whatever this says.
    ///
    /// Source: measured on nginx 1.22 and Kong 3.9.1. CONNECT is 400 there because its target is
    /// no path.
    pub const fn status(self) -> u16 {
        match self {
            Self::Trace => 405,
            Self::LineTooLong => 414,
            Self::CodingUnknown => 501,
            Self::Version => 505,
            Self::RequestLine
            | Self::Method
            | Self::Connect
            | Self::TargetForm
            | Self::TargetEscape
            | Self::TargetAboveRoot
            | Self::TargetHost
            | Self::FieldTooLong
            | Self::HeadTooLarge
            | Self::TooManyFields
            | Self::FieldName
            | Self::FieldValue
            | Self::Folded
            | Self::LineEnd
            | Self::Disguised
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostBad
            | Self::LengthRepeated
            | Self::LengthBad
            | Self::LengthAndCoding
            | Self::CodingRepeated
            | Self::CodingTooOld
            | Self::StatusLine => 400,
        }
    }

    /// nginx's internal status 494, told as 400 with the words
    /// `Request header or cookie too large`.
    pub const fn is_too_large(self) -> bool {
        matches!(self, Self::FieldTooLong | Self::HeadTooLarge | Self::TooManyFields)
    }

    /// The fault in words, for the log.
    pub const fn words(self) -> &'static str {
        match self {
            Self::RequestLine => "the request line is malformed",
            Self::Method => "the method is malformed",
            Self::Connect => "CONNECT is not served",
            Self::Trace => "TRACE is not served",
            Self::TargetForm => "the target is neither a path nor an absolute URI",
            Self::TargetEscape => "the target has a bad percent escape",
            Self::TargetAboveRoot => "the target leads above the root",
            Self::TargetHost => "the target's host is bad",
            Self::Version => "the version is not served",
            Self::LineTooLong => "the first line is too long",
            Self::FieldTooLong => "a header line is too long",
            Self::HeadTooLarge => "the head is too large",
            Self::TooManyFields => "there are too many header lines",
            Self::FieldName => "a header name is malformed",
            Self::FieldValue => "a header value has a control byte",
            Self::Folded => "a header line is folded",
            Self::LineEnd => "a line end is malformed",
            Self::Disguised => "a framing header is spelled with an underscore",
            Self::HostMissing => "Host is missing",
            Self::HostRepeated => "Host is repeated",
            Self::HostBad => "Host is malformed",
            Self::LengthRepeated => "Content-Length is repeated",
            Self::LengthBad => "Content-Length is malformed",
            Self::LengthAndCoding => "Content-Length and Transfer-Encoding are both there",
            Self::CodingRepeated => "Transfer-Encoding is repeated",
            Self::CodingUnknown => "Transfer-Encoding is not chunked",
            Self::CodingTooOld => "Transfer-Encoding in HTTP/1.0",
            Self::StatusLine => "the status line is malformed",
        }
    }
}

impl fmt::Display for HeadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for HeadFault {}

/// httparse's complaint about a request, in our words. Slow and rare.
pub(super) fn of_request(bytes: &[u8], limits: &Limits, error: Error) -> HeadFault {
    match first_line(bytes, limits) {
        Err(fault) => fault,
        Ok(line) => match error {
            Error::Version if has_version(line) => HeadFault::Version,
            Error::Version | Error::Token | Error::Status => HeadFault::RequestLine,
            error => of_line(bytes, error),
        },
    }
}

/// httparse's complaint about a response, in our words.
pub(super) fn of_response(bytes: &[u8], limits: &Limits, error: Error) -> HeadFault {
    match first_line(bytes, limits) {
        Err(fault) => fault,
        Ok(_) if matches!(error, Error::Version | Error::Token | Error::Status) => {
            HeadFault::StatusLine
        }
        Ok(_) => of_line(bytes, error),
    }
}

/// The first line without its end, unless it is too long.
fn first_line<'b>(bytes: &'b [u8], limits: &Limits) -> Result<&'b [u8], HeadFault> {
    let line = without_empty_lines(bytes);
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
    if line.len() >= limits.request_line_bytes_max {
        return Err(HeadFault::LineTooLong);
    }
    Ok(line.strip_suffix(b"\r").unwrap_or(line))
}

/// Whether the line ends in a version that could be one: `HTTP/`, a digit, a dot, a digit.
fn has_version(line: &[u8]) -> bool {
    let version = line.rsplit(|&b| b == b' ').next().unwrap_or_default();
    let spaces = line.iter().filter(|&&b| b == b' ').count();
    spaces == 2
        && matches!(version.strip_prefix(b"HTTP/"),
            Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Whether a line of the head starts with a space: a folded header.
pub(super) fn has_fold(bytes: &[u8]) -> bool {
    let mut lines = without_empty_lines(bytes).split(|&b| b == b'\n').skip(1);
    lines
        .by_ref()
        .take_while(|line| !matches!(line, [] | [b'\r']))
        .any(|line| matches!(line.first(), Some(b' ' | b'\t')))
}

/// What follows the empty lines that a client may send before a request.
pub(super) fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    bytes.get(blank..).unwrap_or_default()
}
