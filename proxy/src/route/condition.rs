//! Routes that are expressions (`router_flavor = expressions`), compiled.
//!
//! The language is that of Kong's engine: a field without a value makes its predicate false,
//! whatever the operator; of a repeated header or argument every value must match, with `any()`
//! one of them. Source: the crate atc-router (`interpreter.rs`), Kong `kong/router/fields.lua`.
//!
//! What every request of a route must have (a start of the path, a host) is told apart, so that a
//! route is kept in the shard where such requests look.

use super::Lookup;
use super::matcher::{Scratch, Taken};
use super::name::Host;
use super::pattern::Pattern;
use super::spec::PathText;
use atc_router::ast::{BinaryOperator, Expression, LogicalExpression, Predicate, Value};
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::IpAddr;
use store::check::expression::{self, segments};

/// Arguments of a query that are looked at (Kong's default for `lua_max_uri_args`).
const ARGUMENTS_MAX: usize = 100;

/// An expression, ready to be asked.
#[derive(Debug)]
pub(super) struct Condition {
    root: Node,
    /// The regular expressions that are searched in paths, whole or lower-cased.
    pub(super) patterns: Box<[Pattern]>,
}

#[derive(Debug)]
enum Node {
    All(Box<[Node]>),
    One(Box<[Node]>),
    Not(Box<Node>),
    Text { field: Text, lower: bool, any: bool, test: TextTest },
    Number { field: Number, test: BinaryOperator, than: i64 },
    Address { field: Ends, inside: bool, net: IpNet },
}

#[derive(Debug, PartialEq, Eq)]
enum Text {
    Protocol,
    Sni,
    Method,
    Host,
    Path,
    Segments(usize, usize),
    Header(String),
    Argument(String),
}

#[derive(Debug, Clone, Copy)]
enum Number {
    ClientPort,
    AskedPort,
    Segments,
}

#[derive(Debug, Clone, Copy)]
enum Ends {
    Client,
    Asked,
}

#[derive(Debug)]
enum TextTest {
    Equal(Box<[u8]>),
    NotEqual(Box<[u8]>),
    Begins(Box<[u8]>),
    Ends(Box<[u8]>),
    Contains(Box<[u8]>),
    /// A place in `Condition::patterns`.
    Regex(usize),
}

/// What every request that fits an expression must have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// A start of its path.
    pub(super) path: Option<PathText>,
    /// Its host, in small letters.
    pub(super) host: Option<String>,
}

impl Hints {
    /// Reads them off an expression; none where it is broken.
    pub(super) fn of(text: &str) -> Self {
        let mut hints = Self::default();
        if let Ok(parsed) = expression::parse(&amended(text)) {
            hints.collect(&parsed);
        }
        hints
    }

    fn collect(&mut self, expression: &Expression) {
        match expression {
            Expression::Logical(logical) => {
                if let LogicalExpression::And(left, right) = &**logical {
                    self.collect(left);
                    self.collect(right);
                }
            }
            Expression::Predicate(predicate) => self.note(predicate),
        }
    }

    fn note(&mut self, predicate: &Predicate) {
        let Value::String(text) = &predicate.rhs else { return };
        if !predicate.lhs.transformations.is_empty() {
            return;
        }
        match (predicate.lhs.var_name.as_str(), &predicate.op) {
            ("http.path", BinaryOperator::Equals | BinaryOperator::Prefix) => {
                self.path.get_or_insert_with(|| PathText::Prefix(text.clone()));
            }
            ("http.host", BinaryOperator::Equals) => {
                self.host.get_or_insert_with(|| text.to_ascii_lowercase());
            }
            _ => {}
        }
    }
}

/// The old name of a field, as Kong still takes it.
fn amended(text: &str) -> Cow<'_, str> {
    if text.contains("net.port") {
        Cow::Owned(text.replace("net.port", "net.dst.port"))
    } else {
        Cow::Borrowed(text)
    }
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let parsed = expression::parse(&amended(text))?;
        let mut patterns = Vec::new();
        let root = node(&parsed, &mut patterns)?;
        Ok(Self { root, patterns: patterns.into() })
    }

    /// Whether a request fits, and which part of its path was named.
    pub(super) fn take(
        &self,
        lookup: &Lookup<'_>,
        host: &Host<'_>,
        scratch: &mut Scratch<'_>,
    ) -> Option<Taken> {
        let mut asked = Asked { condition: self, lookup, host, scratch, taken: Taken::Nothing };
        if !asked.holds(&self.root) {
            return None;
        }
        let taken = asked.taken;
        if let Taken::Regex { at, .. } = &taken
            && let Some(pattern) = self.patterns.get(*at)
        {
            // Other searches may have followed: the groups are to be those of the path.
            scratch.searches.find(pattern, lookup.path.path);
        }
        Some(taken)
    }
}

fn node(expression: &Expression, patterns: &mut Vec<Pattern>) -> Result<Node, String> {
    match expression {
        Expression::Predicate(predicate) => leaf(predicate, patterns),
        Expression::Logical(logical) => match &**logical {
            LogicalExpression::Not(inner) => Ok(Node::Not(Box::new(node(inner, patterns)?))),
            LogicalExpression::And(left, right) => {
                let (left, right) = (node(left, patterns)?, node(right, patterns)?);
                Ok(Node::All(match left {
                    Node::All(all) => all.into_iter().chain([right]).collect(),
                    left => Box::new([left, right]),
                }))
            }
            LogicalExpression::Or(left, right) => {
                let (left, right) = (node(left, patterns)?, node(right, patterns)?);
                Ok(Node::One(match left {
                    Node::One(one) => one.into_iter().chain([right]).collect(),
                    left => Box::new([left, right]),
                }))
            }
        },
    }
}

fn leaf(predicate: &Predicate, patterns: &mut Vec<Pattern>) -> Result<Node, String> {
    let name = predicate.lhs.var_name.as_str();
    let (lower, any) = predicate.lhs.get_transformations();
    let odd = || format!("{name} cannot be compared so");
    let number = |field| match predicate.rhs {
        Value::Int(than) => Ok(Node::Number { field, test: copied(&predicate.op), than }),
        _ => Err(odd()),
    };
    let address = |field| {
        let inside = matches!(predicate.op, BinaryOperator::Equals | BinaryOperator::In);
        net(&predicate.rhs).map(|net| Node::Address { field, inside, net }).ok_or_else(odd)
    };
    let field = match name {
        "net.src.port" => return number(Number::ClientPort),
        "net.dst.port" => return number(Number::AskedPort),
        "http.path.segments.len" => return number(Number::Segments),
        "net.src.ip" => return address(Ends::Client),
        "net.dst.ip" => return address(Ends::Asked),
        "net.protocol" => Text::Protocol,
        "tls.sni" => Text::Sni,
        "http.method" => Text::Method,
        "http.host" => Text::Host,
        "http.path" => Text::Path,
        _ => named(name).ok_or_else(odd)?,
    };
    let test = match (&predicate.op, &predicate.rhs) {
        (BinaryOperator::Regex, Value::Regex(regex)) => {
            patterns.push(Pattern::new(regex.as_str())?);
            TextTest::Regex(patterns.len() - 1)
        }
        (op, Value::String(text)) => {
            let text = text.as_bytes().into();
            match op {
                BinaryOperator::Equals => TextTest::Equal(text),
                BinaryOperator::NotEquals => TextTest::NotEqual(text),
                BinaryOperator::Prefix => TextTest::Begins(text),
                BinaryOperator::Postfix => TextTest::Ends(text),
                BinaryOperator::Contains => TextTest::Contains(text),
                _ => return Err(odd()),
            }
        }
        _ => return Err(odd()),
    };
    Ok(Node::Text { field, lower, any, test })
}

fn named(name: &str) -> Option<Text> {
    if let Some(suffix) = name.strip_prefix("http.path.segments.") {
        return segments(suffix).map(|(first, last)| Text::Segments(first, last));
    }
    if let Some(header) = name.strip_prefix("http.headers.") {
        return Some(Text::Header(header.to_ascii_lowercase()));
    }
    name.strip_prefix("http.queries.").map(|name| Text::Argument(name.to_owned()))
}

const fn copied(op: &BinaryOperator) -> BinaryOperator {
    match op {
        BinaryOperator::NotEquals => BinaryOperator::NotEquals,
        BinaryOperator::Greater => BinaryOperator::Greater,
        BinaryOperator::GreaterOrEqual => BinaryOperator::GreaterOrEqual,
        BinaryOperator::Less => BinaryOperator::Less,
        BinaryOperator::LessOrEqual => BinaryOperator::LessOrEqual,
        _ => BinaryOperator::Equals,
    }
}

fn net(value: &Value) -> Option<IpNet> {
    match value {
        Value::IpAddr(ip) => Some(IpNet::from(*ip)),
        Value::IpCidr(cidr) => IpNet::new(cidr.first_address(), cidr.network_length()).ok(),
        _ => None,
    }
}

/// One question to one request.
struct Asked<'a, 's> {
    condition: &'a Condition,
    lookup: &'a Lookup<'a>,
    host: &'a Host<'a>,
    scratch: &'a mut Scratch<'s>,
    taken: Taken,
}

impl Asked<'_, '_> {
    fn holds(&mut self, node: &Node) -> bool {
        match node {
            Node::All(nodes) => nodes.iter().all(|node| self.holds(node)),
            Node::One(nodes) => nodes.iter().any(|node| self.holds(node)),
            Node::Not(node) => !self.holds(node),
            Node::Number { field, test, than } => compare(self.number(*field), test, *than),
            Node::Address { field, inside, net } => {
                let ip = match field {
                    Ends::Client => self.lookup.client.ip(),
                    Ends::Asked => self.lookup.local.ip(),
                };
                holds_address(net, ip) == *inside
            }
            Node::Text { field, lower, any, test } => self.text(field, *lower, *any, test),
        }
    }

    fn number(&self, field: Number) -> i64 {
        match field {
            Number::ClientPort => i64::from(self.lookup.client.port()),
            Number::AskedPort => i64::from(self.host.port),
            Number::Segments => parts(self.lookup.path.path).count() as i64,
        }
    }

    fn text(&mut self, field: &Text, lower: bool, any: bool, test: &TextTest) -> bool {
        let lookup = self.lookup;
        match field {
            Text::Protocol => {
                let protocol: &[u8] = if lookup.tls { b"https" } else { b"http" };
                self.value(field, protocol, lower, test)
            }
            Text::Sni => {
                lookup.sni.is_some_and(|sni| self.value(field, sni.as_bytes(), lower, test))
            }
            Text::Method => self.value(field, lookup.method.as_bytes(), lower, test),
            Text::Host => {
                let (name, _) = super::name::split_port(lookup.host);
                self.value(field, name, lower, test)
            }
            Text::Path => self.value(field, lookup.path.path, lower, test),
            Text::Segments(first, last) => {
                // Names a piece of the path without a copy: its segments lie side by side.
                piece(lookup.path.path, *first, *last)
                    .is_some_and(|piece| self.value(field, piece, lower, test))
            }
            Text::Header(name) => {
                let lines = lookup.headers.iter();
                let named = lines.filter(|(line, _)| super::matcher::same_name(name, line));
                self.each(field, named.map(|(_, value)| Cow::Borrowed(value)), lower, any, test)
            }
            Text::Argument(name) => {
                let all = plugins::pdk::query::all(lookup.query).take(ARGUMENTS_MAX);
                let named = all.filter(|(key, _)| **key == *name.as_bytes());
                self.each(field, named.map(|(_, value)| value), lower, any, test)
            }
        }
    }

    /// Every value, or with `any` one of them; none fits nothing.
    fn each<'v>(
        &mut self,
        field: &Text,
        values: impl Iterator<Item = Cow<'v, [u8]>>,
        lower: bool,
        any: bool,
        test: &TextTest,
    ) -> bool {
        let mut seen = false;
        for value in values {
            seen = true;
            if self.value(field, &value, lower, test) == any {
                return any;
            }
        }
        seen && !any
    }

    fn value(&mut self, field: &Text, value: &[u8], lower: bool, test: &TextTest) -> bool {
        let small;
        let value = if lower && value.iter().any(u8::is_ascii_uppercase) {
            // Only where an expression asks for it.
            small = value.to_ascii_lowercase();
            &small
        } else {
            value
        };
        match test {
            TextTest::Equal(text) => value == &**text,
            TextTest::NotEqual(text) => value != &**text,
            TextTest::Begins(text) => {
                let begins = value.starts_with(text);
                if begins && *field == Text::Path {
                    self.taken = Taken::Prefix(text.len());
                }
                begins
            }
            TextTest::Ends(text) => value.ends_with(text),
            TextTest::Contains(text) => memchr::memmem::find(value, text).is_some(),
            TextTest::Regex(at) => self.search(field, *at, value),
        }
    }

    fn search(&mut self, field: &Text, at: usize, value: &[u8]) -> bool {
        let Some(pattern) = self.condition.patterns.get(at) else { return false };
        if *field != Text::Path {
            return self.scratch.searches.is_match(pattern, value);
        }
        match self.scratch.searches.find(pattern, value) {
            Some(range) => {
                self.taken = Taken::Regex { at, range };
                true
            }
            None => false,
        }
    }
}

const fn compare(found: i64, test: &BinaryOperator, than: i64) -> bool {
    match test {
        BinaryOperator::NotEquals => found != than,
        BinaryOperator::Greater => found > than,
        BinaryOperator::GreaterOrEqual => found >= than,
        BinaryOperator::Less => found < than,
        BinaryOperator::LessOrEqual => found <= than,
        _ => found == than,
    }
}

fn holds_address(net: &IpNet, ip: IpAddr) -> bool {
    net.contains(&ip.to_canonical())
}

/// The segments of a path; empty ones at its end do not count.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let path = path.get(..end).unwrap_or_default();
    let some = !path.is_empty();
    path.split(|byte| *byte == b'/').filter(move |_| some)
}

/// The segments from `first` to `last`, with what lies between; none where the path is shorter.
fn piece(path: &[u8], first: usize, last: usize) -> Option<&[u8]> {
    let start = parts(path).nth(first)?;
    let end = parts(path).nth(last)?;
    let at = start.as_ptr() as usize - path.as_ptr() as usize;
    let to = end.as_ptr() as usize - path.as_ptr() as usize + end.len();
    path.get(at..to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_between_slashes() {
        let check = |path: &str, count: usize, at: (usize, usize), expected: Option<&str>| {
            assert_eq!(parts(path.as_bytes()).count(), count, "{path}");
            let found = piece(path.as_bytes(), at.0, at.1);
            assert_eq!(found, expected.map(str::as_bytes), "{path} {at:?}");
        };
        check("/", 0, (0, 0), None);
        check("/a", 1, (0, 0), Some("a"));
        check("/a/b//", 2, (1, 1), Some("b"));
        check("/a//c", 3, (0, 2), Some("a//c"));
        check("/a//c", 3, (1, 1), Some(""));
        check("/a/b", 2, (1, 2), None);
    }

    #[test]
    fn what_every_request_must_have_is_told() {
        let check = |text: &str, path: Option<&str>, host: Option<&str>| {
            let path = path.map(|path| PathText::Prefix(path.to_owned()));
            let expected = Hints { path, host: host.map(str::to_owned) };
            assert_eq!(Hints::of(text), expected, "{text}");
        };
        check(r#"http.path ^= "/a" && http.host == "A.b""#, Some("/a"), Some("a.b"));
        check(r#"(http.path == "/a" && http.method == "GET") && net.port == 1"#, Some("/a"), None);
        check(r#"http.path ^= "/a" || http.host == "b""#, None, None);
        check(r#"lower(http.path) ^= "/a" && !(http.host == "b")"#, None, None);
        check("nonsense", None, None);
    }
}
