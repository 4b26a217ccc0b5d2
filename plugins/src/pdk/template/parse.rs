//! From a text to what is looked up. See the grammar in `template.rs`.

use super::{Expr, Pair, Part, Root, Template};

/// Most parts of one text, and most values and operators of one expression.
const NODES_MAX: usize = 128;
/// Parentheses and brackets in each other.
const DEPTH_MAX: usize = 16;

/// Splits a text into look-ups and what stands between them. Parentheses are counted whatever they
/// stand in, as Penlight counts them; those without an end are text.
pub(super) fn text(text: &str) -> Result<Template, String> {
    let (mut parts, mut plain) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("$(") {
        let (before, found) = rest.split_at(at);
        plain.extend_from_slice(before.as_bytes());
        let Some(end) = closing(found) else {
            plain.extend_from_slice(found.as_bytes());
            rest = "";
            break;
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(Part::Look(expression(found.get(2..end).unwrap_or(""))?));
        rest = found.get(end + 1..).unwrap_or("");
        if parts.len() > NODES_MAX {
            return Err("the text has too many expressions".to_owned());
        }
    }
    plain.extend_from_slice(rest.as_bytes());
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(Template(parts.into()))
}

/// Where the parenthesis that opens behind the `$` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'(' => open += 1,
            b')' if open == 1 => return Some(at),
            b')' => open -= 1,
            _ => {}
        }
    }
    None
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(Box<[u8]>),
    Number(f64),
    /// An operator or a bracket.
    Sign(&'static str),
}

const SIGNS: &[&str] = &["..", "==", "~=", ".", "[", "]", "(", ")"];

fn expression(text: &str) -> Result<Expr, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, nodes: 0, depth: 0 };
    let found = parser.or()?;
    match parser.tokens.get(parser.at) {
        None => Ok(found),
        Some(token) => Err(not_understood(token)),
    }
}

fn not_understood(token: &Token) -> String {
    match token {
        Token::Name(name) => format!("'{name}' is not understood"),
        Token::Text(_) => "a text is not understood here".to_owned(),
        Token::Number(_) => "a number is not understood here".to_owned(),
        Token::Sign(sign) => format!("'{sign}' is not understood here"),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, used) = match first {
            '\'' | '"' => quoted(rest)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let name = rest.get(..end.unwrap_or(rest.len())).unwrap_or("");
                (Token::Name(name.to_owned()), name.len())
            }
            '0'..='9' => number(rest)?,
            _ => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                let sign = sign.ok_or_else(|| format!("'{first}' is not understood"))?;
                (Token::Sign(sign), sign.len())
            }
        };
        tokens.push(token);
        if tokens.len() > NODES_MAX * 4 {
            return Err("the expression is too long".to_owned());
        }
        rest = rest.get(used..).unwrap_or("").trim_start();
    }
    Ok(tokens)
}

/// A number: digits, perhaps with a fraction. Two dots behind digits join.
fn number(text: &str) -> Result<(Token, usize), String> {
    let digits = |from: usize| {
        let tail = text.get(from..).unwrap_or("");
        from + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())
    };
    let mut end = digits(0);
    let tail = text.get(end..).unwrap_or("");
    if tail.starts_with('.') && !tail.starts_with("..") {
        end = digits(end + 1);
    }
    let found = text.get(..end).unwrap_or("");
    let number = found.parse().map_err(|_| format!("'{found}' is no number"))?;
    Ok((Token::Number(number), end))
}

fn quoted(text: &str) -> Result<(Token, usize), String> {
    let mut bytes = text.bytes().enumerate();
    let quote = bytes.next().map(|(_, quote)| quote);
    let mut out = Vec::new();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            _ if Some(byte) == quote => return Ok((Token::Text(out.into()), at + 1)),
            b'\\' => out.push(match bytes.next().map(|(_, byte)| byte) {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(other @ (b'\\' | b'"' | b'\'')) => other,
                _ => return Err("an escape in a text is not understood".to_owned()),
            }),
            _ => out.push(byte),
        }
    }
    Err("a text has no end".to_owned())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    nodes: usize,
    depth: usize,
}

type Parsed = Result<Expr, String>;

impl Parser {
    fn or(&mut self) -> Parsed {
        self.deeper()?;
        let mut left = self.and()?;
        while self.takes_name("or") {
            left = self.pair(Pair::Or, left, Self::and)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.equal()?;
        while self.takes_name("and") {
            left = self.pair(Pair::And, left, Self::equal)?;
        }
        Ok(left)
    }

    fn equal(&mut self) -> Parsed {
        let left = self.join()?;
        if self.takes("==") {
            self.pair(Pair::Equal, left, Self::join)
        } else if self.takes("~=") {
            self.pair(Pair::Unequal, left, Self::join)
        } else {
            Ok(left)
        }
    }

    fn join(&mut self) -> Parsed {
        let mut left = self.unary()?;
        while self.takes("..") {
            left = self.pair(Pair::Join, left, Self::unary)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let mut turns = 0_usize;
        while self.takes_name("not") {
            turns += 1;
        }
        let mut found = self.value()?;
        for _ in 0..turns {
            self.count()?;
            found = Expr::Not(Box::new(found));
        }
        Ok(found)
    }

    fn value(&mut self) -> Parsed {
        self.count()?;
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        match token {
            None => Err("there is no value".to_owned()),
            Some(Token::Text(text)) => Ok(Expr::Text(text)),
            Some(Token::Number(number)) => Ok(Expr::Number(number)),
            Some(Token::Sign("(")) => {
                let inner = self.or()?;
                self.demands(")")?;
                Ok(inner)
            }
            Some(Token::Name(name)) => self.named(&name),
            Some(token) => Err(not_understood(&token)),
        }
    }

    fn named(&mut self, name: &str) -> Parsed {
        let root = match name {
            "nil" => return Ok(Expr::Nil),
            "true" => return Ok(Expr::Flag(true)),
            "false" => return Ok(Expr::Flag(false)),
            "type" => {
                self.demands("(")?;
                let inner = self.or()?;
                self.demands(")")?;
                return Ok(Expr::Type(Box::new(inner)));
            }
            "headers" => Root::Headers,
            "query_params" => Root::QueryParams,
            "uri_captures" => Root::UriCaptures,
            "shared" => Root::Shared,
            other => {
                return Err(format!(
                    "'{other}' is none of headers, query_params, uri_captures, shared: Lua beyond \
                     look-ups, texts, and, or, not, ==, ~=, .. and type() is not supported"
                ));
            }
        };
        self.indexed(Expr::Root(root))
    }

    fn indexed(&mut self, mut found: Expr) -> Parsed {
        loop {
            let key = if self.takes(".") {
                let Some(Token::Name(name)) = self.tokens.get(self.at) else {
                    return Err("a name is missing behind a dot".to_owned());
                };
                let key = Expr::Text(name.as_bytes().into());
                self.at += 1;
                key
            } else if self.takes("[") {
                let key = self.or()?;
                self.demands("]")?;
                key
            } else {
                return Ok(found);
            };
            self.count()?;
            found = Expr::Index(Box::new(found), Box::new(key));
        }
    }

    fn pair(&mut self, pair: Pair, left: Expr, right: fn(&mut Self) -> Parsed) -> Parsed {
        let right = right(self)?;
        Ok(Expr::Pair(pair, Box::new(left), Box::new(right)))
    }

    fn takes(&mut self, sign: &str) -> bool {
        let takes = matches!(self.tokens.get(self.at), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(takes);
        takes
    }

    fn takes_name(&mut self, name: &str) -> bool {
        let takes = matches!(self.tokens.get(self.at), Some(Token::Name(found)) if found == name);
        self.at += usize::from(takes);
        takes
    }

    fn demands(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) { Ok(()) } else { Err(format!("'{sign}' is missing")) }
    }

    fn count(&mut self) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err("the expression is too long".to_owned()) } else { Ok(()) }
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err("the expression is too deep".to_owned()) } else { Ok(()) }
    }
}
