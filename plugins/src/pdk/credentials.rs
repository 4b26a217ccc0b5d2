//! How credentials stand in a request: lines with a scheme, cookies, base64; read as nginx and Kong
//! read them. None of it ever panics, and all of it takes time in proportion to what was sent.
//!
//! Source: Kong `kong/plugins/{basic-auth,jwt,oauth2}` (their patterns), nginx
//! `ngx_decode_base64`, `ngx_http_parse_multi_header_lines`.

use aws_lc_rs::constant_time;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::{memchr, memchr2};
use runtime::http::head::Fields;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Bytes out of base64: padding is optional, and whatever stands behind the first `=` is ignored.
pub fn base64(text: &[u8]) -> Option<Vec<u8>> {
    PLAIN.decode(unpadded(text)).ok()
}

/// The same, written into `room`; none if there is too little.
pub fn base64_into<'r>(text: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
    let len = PLAIN.decode_slice(unpadded(text), room).ok()?;
    room.get(..len)
}

/// The same with the alphabet of URLs, as JSON Web Tokens have it.
pub fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL.decode(unpadded(text)).ok()
}

/// Base64 with the alphabet of URLs, without padding.
pub fn to_base64url(bytes: &[u8]) -> String {
    URL.encode(bytes)
}

/// Base64 without padding.
pub fn to_base64_unpadded(bytes: &[u8]) -> String {
    PLAIN.encode(bytes)
}

fn unpadded(text: &[u8]) -> &[u8] {
    before(b'=', text)
}

/// What stands before the first such byte; all, where there is none.
fn before(byte: u8, text: &[u8]) -> &[u8] {
    memchr(byte, text).and_then(|at| text.get(..at)).unwrap_or(text)
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2];
    hex_into(bytes, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// The same, written into `room`, two for each byte; what does not fit is left out.
pub fn hex_into(bytes: &[u8], room: &mut [u8]) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    for (pair, byte) in room.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub fn same(one: &[u8], two: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, two).is_ok()
}

/// What follows a scheme in a header value, up to the end of the line. The scheme may stand
/// anywhere (Kong's patterns are not anchored), its first letter in either case, the others in
/// lower case; `spaces_min` white space characters must follow it.
pub fn after_scheme<'a>(value: &'a [u8], scheme: &str, spaces_min: usize) -> Option<&'a [u8]> {
    let name = scheme.as_bytes();
    let (first, others) = name.split_first()?;
    let (lower, upper) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    let mut rest = value;
    while let Some(at) = memchr2(lower, upper, rest) {
        rest = rest.get(at + 1..)?;
        let Some(behind) = rest.strip_prefix(others) else { continue };
        let spaces = behind.iter().take_while(|byte| is_space(**byte)).count();
        let line = |from: usize| {
            let credentials = before(b'\n', behind.get(from..)?);
            (!credentials.is_empty()).then_some(credentials)
        };
        if spaces >= spaces_min
            && let Some(found) = line(spaces)
        {
            return Some(found);
        }
        // White space may itself be what follows, where nothing else does.
        if spaces > spaces_min
            && let Some(found) = line(spaces - 1)
        {
            return Some(found);
        }
    }
    None
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The value of a cookie, by its name in any case; the first one counts.
pub fn cookie<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.all("cookie").find_map(|line| in_line(line, name.as_bytes()))
}

/// A comma ends what is skipped, but not a value.
fn in_line<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = line;
    loop {
        if let Some(value) = at_start(rest, name) {
            return Some(value);
        }
        let end = memchr2(b';', b',', rest)?;
        rest = trim_start(rest.get(end + 1..)?);
    }
}

fn at_start<'a>(rest: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, behind) = rest.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    Some(before(b';', trim_start(trim_start(behind).strip_prefix(b"=")?)))
}

fn trim_start(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    text.get(spaces..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_nginx_reads_it() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(base64(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        }
        check("dTpw", Some("u:p"));
        check("dTpwYQ==", Some("u:pa"));
        check("dTpwYQ", Some("u:pa"));
        check("dTpwYR", Some("u:pa"));
        check("dTpw=!!!", Some("u:p"));
        check("", Some(""));
        check("=", Some(""));
        check("dTpwY", None);
        check("dTpw!", None);
        check("dT pw", None);
        check("dT-w", None);
        assert_eq!(base64url(b"dT-w").as_deref(), Some(&[0x75, 0x3f, 0xb0][..]));
        assert_eq!(base64url(b"dT+w"), None);
        assert_eq!((to_base64url(b"\xfb\xff"), hex(b"\x0a\xff")), ("-_8".into(), "0aff".into()));
        let mut room = [b'x'; 3];
        hex_into(b"\x0a\xff", &mut room);
        assert_eq!(&room, b"0ax");
    }

    #[test]
    fn a_scheme_is_found_anywhere() {
        #[track_caller]
        fn check(value: &str, scheme: &str, spaces_min: usize, expected: Option<&str>) {
            let found = after_scheme(value.as_bytes(), scheme, spaces_min);
            assert_eq!(found, expected.map(str::as_bytes), "{value}");
        }
        check("Basic abc", "basic", 0, Some("abc"));
        check("basic  abc d", "basic", 0, Some("abc d"));
        check("Basicabc", "basic", 0, Some("abc"));
        check("BASIC abc", "basic", 0, None);
        check("Basic", "basic", 0, None);
        check("Basic ", "basic", 0, Some(" "));
        check("x, Basic abc", "basic", 0, Some("abc"));
        check("Bearer abc", "bearer", 1, Some("abc"));
        check("Bearerabc", "bearer", 1, None);
        check("Bearer ", "bearer", 1, None);
        check("BearerX bearer\tabc", "bearer", 1, Some("abc"));
        check("", "bearer", 1, None);
    }

    #[track_caller]
    fn cookies(lines: &[&str], name: &str, expected: Option<&str>) {
        let mut fields = Fields::new();
        lines.iter().for_each(|line| assert!(fields.add("Cookie", line)));
        let found = cookie(&fields, name).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(found.as_deref(), expected, "{lines:?}");
    }

    #[test]
    fn a_cookie_is_found_by_its_name() {
        cookies(&["a=1; tok=x.y.z; b=2"], "tok", Some("x.y.z"));
        cookies(&["TOK = x ; b=2"], "tok", Some("x "));
        cookies(&["tok=1; tok=2"], "tok", Some("1"));
        cookies(&["a=1", "tok=3"], "tok", Some("3"));
        cookies(&["tok2=1; atok=2"], "tok", None);
        cookies(&["a=tok=1"], "tok", None);
        cookies(&["tok"], "tok", None);
        cookies(&["tok="], "tok", Some(""));
        cookies(&["a=1,tok=2,3;b"], "tok", Some("2,3"));
        cookies(&[], "tok", None);
    }

    /// How much longer a comparison takes whose difference stands at the end than one whose
    /// difference stands at the beginning: the shortest of many rounds each, taken in turn, so that
    /// a busy machine disturbs both alike and one quiet moment for each suffices.
    fn tells(same: fn(&[u8], &[u8]) -> bool) -> f64 {
        const BYTES: usize = 16 * 1024;
        let secret = vec![b'k'; BYTES];
        let guesses = [0, BYTES - 1].map(|at| {
            let mut guess = secret.clone();
            guess[at] = b'x';
            guess
        });
        let mut shortest = [f64::MAX; 2];
        for _ in 0..400 {
            for (guess, shortest) in guesses.iter().zip(&mut shortest) {
                let begun = std::time::Instant::now();
                for _ in 0..10 {
                    let (one, two) = std::hint::black_box((&secret[..], &guess[..]));
                    assert!(!std::hint::black_box(same(one, two)));
                }
                *shortest = shortest.min(begun.elapsed().as_secs_f64());
            }
        }
        shortest[1] / shortest[0]
    }

    #[test]
    fn how_long_a_comparison_takes_does_not_tell_where_secrets_differ() {
        let found = tells(same);
        assert!((0.5..2.0).contains(&found), "{found}: the place of the difference shows");
        let naive = tells(|one, two| one.iter().zip(two).all(|(a, b)| a == b));
        assert!(naive > 2.0, "{naive}: a comparison that stops early is not noticed");
    }

    #[test]
    fn nothing_that_can_be_sent_makes_a_reader_panic() {
        let mut random = 20_261_122_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        let parts = ["Basic", "basic", " ", "\t", "=", ";", ",", "tok", "\u{ff}", "dTpw", "\n"];
        for _ in 0..2_000 {
            let sent: String = (0..next() % 12).map(|_| parts[next() % parts.len()]).collect();
            let mut fields = Fields::new();
            fields.add("Cookie", &sent);
            let _ = (cookie(&fields, "tok"), base64(sent.as_bytes()), base64url(sent.as_bytes()));
            let found = after_scheme(sent.as_bytes(), "basic", next() % 2);
            assert!(found.is_none_or(|found| !found.is_empty()), "seed 20261122: {sent:?}");
        }
    }
}
