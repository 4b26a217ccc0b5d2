//! Rules that keep the road safe: no panic, no clock, no unsafe block where nobody expects one.

use crate::source::{Source, names, places};

/// The crates whose code runs in the gateway.
const GATEWAY: &[&str] = &["runtime", "exporter", "store", "plugins", "proxy"];

/// The crates of which a part runs for every request.
const ROAD: &[&str] = &["runtime", "exporter", "plugins", "proxy"];

/// What may end the thread. `debug_assert!` and `assert!` of our own invariants are welcome.
const PANICS: &[&str] =
    &[".unwrap()", ".expect(", ".unwrap_err()", "panic!", "todo!", "unimplemented!"];

/// Clocks and dice.
const CLOCKS: &[&str] =
    &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "rand", "thread_rng"];

/// `unsafe` stands only under `runtime/src/{io,ring,tally}`, each with a `SAFETY:` comment.
///
/// A function that is unsafe to call says so in its docs, which clippy checks; its body needs
/// blocks of its own.
pub fn unsafe_code(source: &Source) -> Vec<(usize, String)> {
    let home = ["io", "ring", "tally"].iter().any(|part| is_or_under(source, part));
    let mut faults = Vec::new();
    let blocks = |code: &str| names(code, "unsafe") && !code.contains("unsafe fn");
    for (number, _) in source.numbered().filter(|(_, line)| blocks(&line.code)) {
        if !home {
            faults.push((number, "unsafe outside runtime/src/{io,ring,tally}".into()));
        } else if !explained(source, number, "SAFETY:") {
            faults.push((number, "put `// SAFETY:` and the reason right above it".into()));
        }
    }
    faults
}

/// Whether the file is `runtime/src/<part>.rs` or under `runtime/src/<part>/`.
fn is_or_under(source: &Source, part: &str) -> bool {
    source
        .path
        .strip_prefix("runtime/src/")
        .and_then(|rest| rest.strip_prefix(part))
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Whether `mark` stands in line `number` or in the comments and attributes right above it.
///
/// A statement that rustfmt broke in two (`let x =`) counts as one line.
fn explained(source: &Source, number: usize, mark: &str) -> bool {
    let above = source.lines[..number - 1].iter().rev().take_while(|line| {
        let text = line.text.trim_start();
        text.starts_with("//") || text.starts_with("#[") || line.code.trim_end().ends_with('=')
    });
    let own = source.lines[number - 1..number].iter();
    own.chain(above).any(|line| line.text.contains(mark))
}

/// The event loops under the road have one home.
pub fn drivers(source: &Source) -> Vec<(usize, String)> {
    if is_or_under(source, "io") {
        return Vec::new();
    }
    let named = |code: &str| names(code, "monoio") || names(code, "glommio");
    source
        .numbered()
        .filter(|(_, line)| named(&line.code))
        .map(|(number, _)| (number, "event loops are named in runtime/src/io only".into()))
        .collect()
}

/// Time and chance are arguments, or the core's clock.
pub fn clocks(source: &Source) -> Vec<(usize, String)> {
    let home = is_or_under(source, "clock") || is_or_under(source, "io");
    if home || !GATEWAY.contains(&source.top()) {
        return Vec::new();
    }
    source
        .production()
        .filter(|(_, line)| CLOCKS.iter().any(|word| names(&line.code, word)))
        .map(|(number, _)| (number, "take the time from runtime::clock or as an argument".into()))
        .collect()
}

/// Nothing that a peer sends may end a thread.
pub fn panics(source: &Source) -> Vec<(usize, String)> {
    if !GATEWAY.contains(&source.top()) {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in source.production() {
        for word in PANICS {
            let words = || format!("`{word}` may end the thread: give back a fault");
            faults.extend(places(&line.code, word).iter().map(|_| (number, words())));
        }
    }
    faults
}

/// An index on the road is a `get`, or says beside it why it cannot miss: `// IN BOUNDS: …`.
///
/// The whole range `[..]` cannot miss.
pub fn indexing(source: &Source) -> Vec<(usize, String)> {
    if !ROAD.contains(&source.top()) {
        return Vec::new();
    }
    source
        .production()
        .filter(|(number, line)| indexes(&line.code) && !explained(source, *number, "IN BOUNDS:"))
        .map(|(number, _)| (number, "use `get`, or say above it why: `// IN BOUNDS: …`".into()))
        .collect()
}

/// Whether `code` has an index expression.
fn indexes(code: &str) -> bool {
    code.match_indices('[').any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let value =
            before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ')' | ']' | '?'));
        value && !code[at..].starts_with("[..]")
    })
}

/// A bundled plugin is one file with its specification, its source of truth and its tests.
pub fn plugin_files(source: &Source) -> Vec<(usize, String)> {
    let name = source.path.strip_prefix("plugins/src/bundled/").unwrap_or_default();
    if name.is_empty() || name.contains('/') || name == "mod.rs" {
        return Vec::new();
    }
    let has = |word: &str| source.lines.iter().any(|line| line.code.contains(word));
    let cites = source.lines.iter().any(|line| line.text.starts_with("//! Source:"));
    let mut faults = Vec::new();
    if !has("pub static PLUGIN:") {
        faults.push((1, "a plugin file has `pub static PLUGIN: Spec`".into()));
    }
    if !cites {
        faults.push((1, "a plugin file cites its source of truth: `//! Source: …`".into()));
    }
    if !has("#[test]") && !has("#[cfg(test)]") {
        faults.push((1, "a plugin file has its tests".into()));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    type Find = fn(&Source) -> Vec<(usize, String)>;

    /// The lines of `text`, as the file at `path`, that break the rule.
    #[track_caller]
    fn check(find: Find, path: &str, text: &str, expected: &[usize]) {
        let found: Vec<usize> = find(&Source::new(path, text)).into_iter().map(|f| f.0).collect();
        assert_eq!(found, expected, "in {path}:\n{text}");
    }

    #[test]
    fn unsafe_has_a_home_and_a_reason() {
        let reasoned = "// SAFETY: it is ours.\n#[inline]\nunsafe { x }";
        check(unsafe_code, "runtime/src/ring/map.rs", reasoned, &[]);
        check(unsafe_code, "runtime/src/tally.rs", reasoned, &[]);
        check(unsafe_code, "runtime/src/ring.rs", "/// # Safety\n/// No.\nunsafe fn f();", &[]);
        let broken = "// SAFETY: it is ours.\nlet x =\n    unsafe { x };";
        check(unsafe_code, "runtime/src/ring.rs", broken, &[]);
        check(unsafe_code, "runtime/src/iota.rs", reasoned, &[3]);
        check(unsafe_code, "proxy/src/a.rs", reasoned, &[3]);
        check(unsafe_code, "runtime/src/io.rs", "// SAFETY: no.\n\nunsafe { x }", &[3]);
        check(unsafe_code, "proxy/src/a.rs", "// unsafe\n#![deny(unsafe_code)]", &[]);
    }

    #[test]
    fn event_loops_have_a_home() {
        check(drivers, "runtime/src/io/monoio.rs", "use monoio::net;", &[]);
        check(drivers, "runtime/src/cores.rs", "use monoio::net; // monoio", &[1]);
        check(drivers, "runtime/src/cores.rs", "// monoio", &[]);
    }

    #[test]
    fn clocks_have_a_home() {
        check(clocks, "runtime/src/clock.rs", "Instant::now()", &[]);
        check(clocks, "store/src/a.rs", "std::time::Instant::now()\nrand::random()", &[1, 2]);
        check(clocks, "loadtest/src/a.rs", "Instant::now()", &[]);
        check(clocks, "store/src/a.rs", "#[cfg(test)]\nmod t {\nInstant::now()\n}", &[]);
    }

    #[test]
    fn the_road_does_not_panic() {
        check(panics, "proxy/src/a.rs", "x.unwrap();\ny.expect(z);\npanic!(1)", &[1, 2, 3]);
        check(panics, "proxy/src/a.rs", "x.unwrap_or(1);\n\".unwrap()\"; // panic!", &[]);
        check(panics, "proxy/src/a.rs", "#[cfg(test)]\nfn t() { x.unwrap() }", &[]);
        check(panics, "proxy/tests/a.rs", "x.unwrap()", &[]);
        check(panics, "loadtest/src/a.rs", "x.unwrap()", &[]);
    }

    #[test]
    fn an_index_says_why_it_cannot_miss() {
        check(indexing, "runtime/src/a.rs", "a[1]\nf()[0]\nb?[..n]\na[0][1]", &[1, 2, 3, 4]);
        check(indexing, "runtime/src/a.rs", "// IN BOUNDS: n < len.\na[n]\n", &[]);
        check(
            indexing,
            "runtime/src/a.rs",
            "a[..]\n&[u8]\nvec![1]\n#[x]\n[1, 2]\n<[u8]>::f()",
            &[],
        );
        check(indexing, "store/src/a.rs", "a[1]", &[]);
    }

    #[test]
    fn a_plugin_is_whole() {
        let whole = "//! A.\n//!\n//! Source: Kong.\npub static PLUGIN: Spec = X;\n#[cfg(test)]\n";
        check(plugin_files, "plugins/src/bundled/a.rs", whole, &[]);
        check(plugin_files, "plugins/src/bundled/a.rs", "//! A.", &[1, 1, 1]);
        check(plugin_files, "plugins/src/bundled/a/part.rs", "//! A.", &[]);
    }
}
