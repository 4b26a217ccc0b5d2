//! Lua's words.

/// One word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name that is no keyword.
    Name(&'a str),
    /// A number, as it is written.
    Number(&'a str),
    /// A string, as it is written.
    Text(&'a str),
    /// A keyword or an operator.
    Symbol(&'a str),
    /// The end of the text.
    End,
}

impl<'a> Token<'a> {
    /// As it is written.
    pub(super) fn text(self) -> &'a str {
        match self {
            Self::Name(text) | Self::Number(text) | Self::Text(text) | Self::Symbol(text) => text,
            Self::End => "<eof>",
        }
    }
}

const KEYWORDS: &[&str] = &[
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// Longer ones first.
const SYMBOLS: &[&str] = &[
    "...", "..", "==", "~=", "<=", ">=", "::", "+", "-", "*", "/", "%", "^", "#", "<", ">", "=",
    "(", ")", "{", "}", "[", "]", ";", ":", ",", ".",
];

/// A text on its way to words.
#[derive(Clone)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

type Lexed<T> = Result<T, String>;

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// The line that has been reached, counted from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Whether the next word is a name.
    pub(super) fn name_follows(&self) -> bool {
        matches!(self.clone().next(), Ok(Token::Name(_)))
    }

    /// Whether the next word is `=`.
    pub(super) fn assignment_follows(&self) -> bool {
        matches!(self.clone().next(), Ok(Token::Symbol("=")))
    }

    pub(super) fn next(&mut self) -> Lexed<Token<'a>> {
        self.skip()?;
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        let second = self.rest.as_bytes().get(1).copied().unwrap_or_default();
        match first {
            'a'..='z' | 'A'..='Z' | '_' | '\u{80}'.. => {
                let word = self.take_while(|symbol| {
                    symbol.is_ascii_alphanumeric() || symbol == '_' || !symbol.is_ascii()
                });
                let keyword = KEYWORDS.contains(&word);
                Ok(if keyword { Token::Symbol(word) } else { Token::Name(word) })
            }
            '0'..='9' => self.number(),
            '.' if second.is_ascii_digit() => self.number(),
            '"' | '\'' => self.quoted(first),
            '[' if second == b'[' || second == b'=' => match self.long("string")? {
                Some(text) => Ok(Token::Text(text)),
                None => Ok(self.take_symbol("[")),
            },
            _ => match SYMBOLS.iter().find(|symbol| self.rest.starts_with(**symbol)) {
                Some(symbol) => Ok(self.take_symbol(symbol)),
                None => Err(format!("unexpected symbol near '{first}'")),
            },
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        taken
    }

    fn take_symbol(&mut self, symbol: &str) -> Token<'a> {
        Token::Symbol(self.take(symbol.len()))
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|symbol| !wanted(symbol)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// Blanks and comments.
    fn skip(&mut self) -> Lexed<()> {
        loop {
            self.take_while(|symbol| symbol.is_ascii_whitespace() || symbol == '\u{b}');
            if !self.rest.starts_with("--") {
                return Ok(());
            }
            self.take(2);
            if !self.rest.starts_with('[') || self.long("comment")?.is_none() {
                self.take_while(|symbol| symbol != '\n');
            }
        }
    }

    /// `[==[ … ]==]`; nothing if the brackets are none.
    fn long(&mut self, what: &str) -> Lexed<Option<&'a str>> {
        let level = self.rest.bytes().skip(1).take_while(|byte| *byte == b'=').count();
        if self.rest.as_bytes().get(level + 1) != Some(&b'[') {
            return Ok(None);
        }
        let close = format!("]{}]", "=".repeat(level));
        let begin = level + 2;
        match self.rest.get(begin..).and_then(|inside| inside.find(&close)) {
            Some(end) => Ok(Some(self.take(begin + end + close.len()))),
            None => {
                self.take(self.rest.len());
                Err(format!("unfinished long {what} near '<eof>'"))
            }
        }
    }

    fn number(&mut self) -> Lexed<Token<'a>> {
        let mut before = ' ';
        let mut end = self.rest.len();
        let hex = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        for (at, symbol) in self.rest.char_indices() {
            let signed = if hex { "pP" } else { "eE" };
            let sign = "+-".contains(symbol) && signed.contains(before);
            if !(symbol.is_ascii_alphanumeric() || symbol == '_' || symbol == '.' || sign) {
                end = at;
                break;
            }
            before = symbol;
        }
        // `1..2` joins two numbers.
        let joint = self.rest.get(..end).and_then(|word| word.find(".."));
        let joint = joint.filter(|at| self.rest.get(..*at).is_some_and(is_number));
        let word = self.take(joint.unwrap_or(end));
        if is_number(word) {
            Ok(Token::Number(word))
        } else {
            Err(format!("malformed number near '{word}'"))
        }
    }

    fn quoted(&mut self, quote: char) -> Lexed<Token<'a>> {
        let whole = self.rest;
        let mut at = 1;
        loop {
            let Some(symbol) = whole.get(at..).and_then(|rest| rest.chars().next()) else {
                self.take(whole.len());
                return Err("unfinished string near '<eof>'".to_owned());
            };
            match symbol {
                '\n' | '\r' => {
                    let begun = whole.get(..at).unwrap_or_default();
                    return Err(format!("unfinished string near '{begun}'"));
                }
                '\\' => at += escape(whole.get(at..).unwrap_or_default())?,
                found if found == quote => return Ok(Token::Text(self.take(at + 1))),
                other => at += other.len_utf8(),
            }
        }
    }
}

/// How long the escape at the front of a text is.
fn escape(text: &str) -> Lexed<usize> {
    let digits = |from: usize, hex: bool, most: usize| {
        let bytes = text.bytes().skip(from).take(most);
        bytes
            .take_while(|byte| if hex { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() })
            .count()
    };
    let invalid = |bytes: usize| {
        let shown: String = text.chars().take(bytes).collect();
        Err(format!("invalid escape sequence near '{shown}'"))
    };
    match text.as_bytes().get(1) {
        None => Ok(1),
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' | b'"' | b'\'' | b'\n') => {
            Ok(2)
        }
        Some(b'\r') => Ok(if text.as_bytes().get(2) == Some(&b'\n') { 3 } else { 2 }),
        Some(b'z') => {
            let blanks = text.bytes().skip(2).take_while(u8::is_ascii_whitespace).count();
            Ok(2 + blanks)
        }
        Some(b'x') if digits(2, true, 2) == 2 => Ok(4),
        Some(b'u') => {
            let count = digits(3, true, 8);
            let closed = text.as_bytes().get(3 + count) == Some(&b'}');
            if text.as_bytes().get(2) == Some(&b'{') && count > 0 && closed {
                Ok(4 + count)
            } else {
                invalid(3)
            }
        }
        Some(b'0'..=b'9') => {
            let count = digits(1, false, 3);
            let code = text.get(1..=count).and_then(|code| code.parse::<u16>().ok());
            if code.is_some_and(|code| code <= 255) { Ok(1 + count) } else { invalid(1 + count) }
        }
        Some(_) => invalid(2),
    }
}

/// A decimal or hexadecimal number, perhaps a 64 bit or an imaginary one.
fn is_number(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let digits = lower
        .strip_suffix("ull")
        .or_else(|| lower.strip_suffix("ll"))
        .or_else(|| lower.strip_suffix('i'))
        .unwrap_or(&lower);
    match digits.strip_prefix("0x") {
        Some(hex) => {
            let (mantissa, exponent) = hex.split_once('p').unwrap_or((hex, "0"));
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'.';
            mantissa.bytes().any(|byte| byte.is_ascii_hexdigit())
                && mantissa.bytes().all(plain)
                && mantissa.matches('.').count() <= 1
                && !exponent.is_empty()
                && exponent.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => {
            digits.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte))
                && digits.parse::<f64>().is_ok()
        }
    }
}
