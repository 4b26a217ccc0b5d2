//! Expressions of routes (`router_flavor = expressions`): Kong's own language, by its own parser.
//!
//! Source: Kong `kong/router/{expressions,fields}.lua`, `kong/db/schema/entities/routes.lua`, and
//! the crate atc-router, which Kong calls too: its words are Kong's.

use atc_router::ast::{Expression, LogicalExpression, Type};
use atc_router::schema::Schema;
use atc_router::semantics::Validate;

use crate::value::Value;

/// The longest expression. Kong has no limit; reading one takes stack in proportion.
const BYTES_MAX: usize = 32 * 1024;
/// How deep parentheses may lie in each other.
const DEPTH_MAX: usize = 64;

/// Reads an expression and checks that it can be asked of a request.
///
/// # Errors
/// What is wrong with it, in the words of Kong's parser.
pub fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > BYTES_MAX || depth(text) > DEPTH_MAX {
        return Err(format!(
            "the expression is longer than {BYTES_MAX} bytes or deeper than {DEPTH_MAX}"
        ));
    }
    let parsed = atc_router::parser::parse(text).map_err(|fault| fault.to_string())?;
    parsed.validate(&schema())?;
    if !segments_are_well_formed(&parsed) {
        return Err("illformed http.path.segments.* field".to_owned());
    }
    Ok(parsed)
}

/// How deep parentheses lie in each other, those in texts counted too.
fn depth(text: &str) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' => now += 1,
            b')' => now = now.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(now);
    }
    deepest
}

fn schema() -> Schema {
    let mut schema = Schema::default();
    for name in [
        "net.protocol",
        "tls.sni",
        "http.method",
        "http.host",
        "http.path",
        "http.path.segments.*",
        "http.headers.*",
        "http.queries.*",
    ] {
        schema.add_field(name, Type::String);
    }
    for name in ["net.src.port", "net.dst.port", "net.port", "http.path.segments.len"] {
        schema.add_field(name, Type::Int);
    }
    for name in ["net.src.ip", "net.dst.ip"] {
        schema.add_field(name, Type::IpAddr);
    }
    schema
}

/// Which segments of a path `http.path.segments.<this>` names: one, or from one to another.
pub fn segments(suffix: &str) -> Option<(usize, usize)> {
    let number = |text: &str, zero: bool| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let plain = digits && (!text.starts_with('0') || (zero && text == "0"));
        plain.then(|| text.parse::<usize>().ok()).flatten()
    };
    match suffix.split_once('_') {
        None => number(suffix, true).map(|one| (one, one)),
        Some((first, last)) => {
            let both = (number(first, true)?, number(last, false)?);
            (both.0 < both.1).then_some(both)
        }
    }
}

fn segments_are_well_formed(expression: &Expression) -> bool {
    match expression {
        Expression::Logical(logical) => match &**logical {
            LogicalExpression::And(left, right) | LogicalExpression::Or(left, right) => {
                segments_are_well_formed(left) && segments_are_well_formed(right)
            }
            LogicalExpression::Not(inner) => segments_are_well_formed(inner),
        },
        Expression::Predicate(predicate) => {
            match predicate.lhs.var_name.strip_prefix("http.path.segments.") {
                None | Some("len") => true,
                Some(suffix) => segments(suffix).is_some(),
            }
        }
    }
}

/// What other fields a route of this flavour may have beside its expression, and the expression.
///
/// # Errors
/// Kong's words.
pub fn route(route: &Value) -> Result<(), String> {
    const CONDITIONS: [&str; 7] =
        ["methods", "hosts", "paths", "headers", "snis", "sources", "destinations"];
    const WITH_THEM: &str = "with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or \
                             'destinations' simultaneously";
    let failed = |why: String| Err(format!("Router Expression failed validation: {why}"));
    let conditions = CONDITIONS.iter().any(|name| !route.get(name).is_null());
    let number = |name| route.get(name).as_integer().unwrap_or(0);
    let Some(expression) = route.get("expression").as_text() else {
        if conditions && number("priority") != 0 {
            return failed(format!("cannot set 'priority' {WITH_THEM}"));
        }
        return Ok(());
    };
    if conditions {
        return failed(format!("cannot set 'expression' {WITH_THEM}"));
    }
    if number("regex_priority") != 0 {
        return failed("cannot set 'regex_priority' with 'expression' simultaneously".to_owned());
    }
    parse(expression).map(drop).or_else(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), &str>) {
        assert_eq!(parse(text).map(drop), expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn the_words_are_those_of_kongs_parser() {
        check(r#"http.path ^= "/a" && !(http.method == "GET")"#, Ok(()));
        check("http.path\n  ==\n \"/a\" ", Ok(()));
        check(r#"http.nope == "x""#, Err("Unknown LHS field"));
        let types = "Type mismatch between the LHS and RHS values of predicate";
        check("http.path == 5", Err(types));
        check(r#"net.dst.port == "x""#, Err(types));
        check(
            "http.path = \"/a\"",
            Err(" --> 1:11\n  |\n1 | http.path = \"/a\"\n  |           ^---\n  |\n  = expected \
                 binary_operator"),
        );
    }

    #[test]
    fn segments_of_a_path_are_numbered_from_0() {
        let ill = Err("illformed http.path.segments.* field");
        check("http.path.segments.len > 3", Ok(()));
        for (suffix, expected) in [
            ("0", Ok(())),
            ("12", Ok(())),
            ("0_1", Ok(())),
            ("3_10", Ok(())),
            ("01", ill),
            ("1_1", ill),
            ("2_1", ill),
            ("1_", ill),
            ("x", ill),
        ] {
            check(&format!(r#"http.path.segments.{suffix} == "a""#), expected);
        }
    }

    /// Words of the language in any order: an answer always, never a panic.
    #[test]
    fn nothing_that_is_written_stops_the_parser() {
        const WORDS: [&str; 26] = [
            "http.path",
            "net.src.ip",
            "net.dst.port",
            "http.headers.a",
            "any(",
            "lower(",
            ")",
            "(",
            "!",
            "&&",
            "||",
            "==",
            "~",
            "^=",
            "in",
            "not in",
            "contains",
            "10.0.0.0/8",
            "::1/129",
            "99999999999999999999",
            "-5",
            "0x1f",
            "\"a\\x\"",
            "r#\"(\"#",
            "\u{fc}",
            "\"",
        ];
        let mut state = 0x5eed_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..1 + state % 7 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                text.push_str(WORDS[(state % 26) as usize]);
                text.push_str(if state & 1 << 40 == 0 { " " } else { "" });
            }
            let _told = parse(&text);
        }
    }

    #[test]
    fn what_would_take_the_stack_is_refused() {
        let deep = format!("{}http.path == \"a\"{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(parse(&deep).is_err());
        assert!(parse(&vec!["net.src.port==1"; 20_000].join("||")).is_err());
        assert!(parse(&vec!["net.src.port==1"; 1_500].join("||")).is_ok());
    }
}
