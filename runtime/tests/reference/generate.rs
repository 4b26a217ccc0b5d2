//! Inputs from a seed: mostly good messages, put together from good and evil parts, then spoilt a
//! little.

/// Numbers from a seed: splitmix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn pick<'p>(&mut self, from: &[&'p [u8]]) -> &'p [u8] {
        from[self.below(from.len())]
    }

    /// One of the first, the good, or seldom one of the others.
    fn mostly<'p>(&mut self, good: &[&'p [u8]], evil: &[&'p [u8]]) -> &'p [u8] {
        if self.below(16) == 0 { self.pick(evil) } else { self.pick(good) }
    }

    fn line_end(&mut self) -> &'static [u8] {
        self.mostly(&[b"\r\n", b"\r\n", b"\r\n", b"\n"], &[b"\r", b"\r\r\n", b"\n\r", b" \r\n"])
    }

    /// Changes, inserts, doubles or removes a few bytes, or cuts the end off.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(6).saturating_sub(3) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes.insert(at, self.below(256) as u8),
                2 => bytes.insert(at, b"\r\n\t :;,\0/%.\x7f\x80"[self.below(13)]),
                3 => drop(bytes.remove(at)),
                4 => bytes.insert(at, bytes[at]),
                _ => bytes.truncate(at),
            }
        }
    }
}

const METHODS: [&[u8]; 6] = [b"GET", b"POST", b"HEAD", b"X_Y-Z", b"OPTIONS", b"DELETE"];
const EVIL_METHODS: [&[u8]; 5] = [b"CONNECT", b"TRACE", b"get", b"", b"G3T"];
const TARGETS: [&[u8]; 9] = [
    b"/",
    b"/a/b?c=d",
    b"/a/../b",
    b"/%41%2f%2e",
    b"http://h.test/x",
    b"HTTPS://[::1]:8/?q",
    b"http://h?q",
    b"/a//b/./..",
    b"/\xc3\xa4",
];
const EVIL_TARGETS: [&[u8]; 12] = [
    b"*",
    b"",
    b"/..",
    b"/a/../../b",
    b"/%2e%2e/x",
    b"/%zz",
    b"/%0",
    b"/%00",
    b"ftp://h/",
    b"http:///x",
    b"http://u@h/",
    b"/\xff",
];
const VERSIONS: [&[u8]; 3] = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"];
const EVIL_VERSIONS: [&[u8]; 6] =
    [b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.10", b"HTTP/1", b""];
const NAMES: [&[u8]; 9] = [
    b"Host",
    b"X-A",
    b"content-length",
    b"Transfer-Encoding",
    b"Cookie",
    b"x.odd",
    b"Expect",
    b"host",
    b"x_y",
];
const EVIL_NAMES: [&[u8]; 8] = [
    b"Content_Length",
    b"transfer_encoding",
    b"",
    b"a b",
    b" Host",
    b"Content-Length ",
    b"x\xe4",
    b"\tfold",
];
const VALUES: [&[u8]; 8] =
    [b"shop.test", b"5", b"chunked", b"a b\tc", b"", b"\xe4\xf6", b"  x  ", b"a:8080"];
const EVIL_VALUES: [&[u8]; 14] = [
    b"05",
    b"+5",
    b"5, 5",
    b"99999999999999999999",
    b"9223372036854775808",
    b"chunked, chunked",
    b"xchunked",
    b"a\0b",
    b"a..b",
    b"a@b",
    b"[::1",
    b"a:8x",
    b"a\x0bb",
    b"\x7f",
];

/// A request's head.
pub(crate) fn head(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..dice.below(8).saturating_sub(6) {
        let end = dice.line_end();
        out.extend_from_slice(end);
    }
    let space: &[u8] = dice.mostly(&[b" "], &[b"  ", b"\t", b""]);
    for (good, evil) in [
        (&METHODS[..], &EVIL_METHODS[..]),
        (&TARGETS[..], &EVIL_TARGETS[..]),
        (&VERSIONS[..], &EVIL_VERSIONS[..]),
    ] {
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.extend_from_slice(space);
        }
        out.extend_from_slice(dice.mostly(good, evil));
    }
    out.extend_from_slice(dice.line_end());
    if dice.below(8) > 0 {
        out.extend_from_slice(b"Host: a.test");
        out.extend_from_slice(dice.line_end());
    }
    for _ in 0..dice.below(5) {
        out.extend_from_slice(dice.mostly(&NAMES, &EVIL_NAMES));
        out.extend_from_slice(dice.mostly(&[b": ", b":"], &[b" : ", b"", b":\t "]));
        out.extend_from_slice(dice.mostly(&VALUES, &EVIL_VALUES));
        if dice.below(40) == 0 {
            let byte = [b'v', b' '][dice.below(2)];
            out.extend(std::iter::repeat_n(byte, dice.below(60)));
        }
        out.extend_from_slice(dice.line_end());
    }
    out.extend_from_slice(dice.line_end());
    out.extend_from_slice(dice.mostly(&[b"", b"body"], &[b"\r\n", b"GET / HTTP/1.1\r\n\r\n"]));
    dice.spoil(&mut out);
    out
}

/// A chunked body.
pub(crate) fn chunks(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    let end = |dice: &mut Dice| -> &'static [u8] {
        dice.mostly(&[b"\r\n", b"\r\n", b"\r\n"], &[b"\n", b"\r", b"", b"\r\n\r\n"])
    };
    for _ in 0..dice.below(4) {
        let size = 1 + dice.below(20);
        let text = match dice.below(8) {
            0 => format!("{size:X}"),
            1 => format!("{size:05x}"),
            2 if dice.below(8) == 0 => format!("{size:020x}"),
            3 if dice.below(8) == 0 => "8000000000000000".to_owned(),
            4 if dice.below(8) == 0 => format!("0x{size:x}"),
            _ => format!("{size:x}"),
        };
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(
            dice.mostly(&[b"", b"", b"; a=b", b" ", b" \t;x"], &[b"g", b";\0", b" x", b";\n"]),
        );
        out.extend_from_slice(end(dice));
        out.extend((0..size).map(|at| b"data\r\n0;"[at % 8]));
        out.extend_from_slice(end(dice));
    }
    out.extend_from_slice(dice.mostly(&[b"0", b"000", b"0;x"], &[b"-0", b"", b"0 0"]));
    out.extend_from_slice(end(dice));
    for _ in 0..dice.below(6).saturating_sub(3) {
        out.extend_from_slice(
            dice.mostly(&[b"x: y", b"grpc-status: 0"], &[b" x", b"\0", b"x\x7f"]),
        );
        out.extend_from_slice(end(dice));
    }
    out.extend_from_slice(end(dice));
    out.extend_from_slice(dice.mostly(&[b"", b"next"], &[b"\r\n"]));
    dice.spoil(&mut out);
    out
}
