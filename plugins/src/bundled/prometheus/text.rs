//! The text format of Prometheus, version 0.0.4.
//!
//! Source: prometheus.io, "Exposition formats".

use std::fmt::{Display, Write};

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = "text/plain; charset=UTF-8";

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A scrape that is being written.
#[derive(Default)]
pub(super) struct Text {
    out: String,
}

impl Text {
    /// Begins a family: its lines follow, and no other family's before the last of them.
    pub(super) fn family(&mut self, name: &'static str, help: &str, kind: Kind) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // A string takes everything.
        let _never = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { out: &mut self.out, name }
    }

    /// One value without labels.
    pub(super) fn single(
        &mut self,
        name: &'static str,
        help: &str,
        kind: Kind,
        value: impl Display,
    ) {
        self.family(name, help, kind).line(&[], value);
    }

    /// The whole text.
    pub(super) fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }
}

/// One family.
pub(super) struct Family<'t> {
    out: &'t mut String,
    name: &'static str,
}

impl Family<'_> {
    /// One value.
    pub(super) fn line(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    /// One value of a part of the family (`_bucket`, `_sum`, `_count`).
    pub(super) fn part(&mut self, part: &str, labels: &[(&str, &str)], value: impl Display) {
        let _never = write!(self.out, "{}{part}", self.name);
        for (number, (name, value)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let _never = write!(self.out, "{open}{name}=\"");
            escape(self.out, value);
            self.out.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _never = writeln!(self.out, "{close} {value}");
    }

    /// A histogram: counts of each bucket (not added up), the last above all bounds, and the sum.
    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[u32], cells: &[u64]) {
        let bounds = bounds.iter().map(u32::to_string).chain(["+Inf".to_owned()]);
        let mut count = 0;
        for (bound, cell) in bounds.zip(cells) {
            count += cell;
            let with_bound: Vec<_> =
                labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.part("_bucket", &with_bound, count);
        }
        self.part("_count", labels, count);
        self.part("_sum", labels, cells.last().copied().unwrap_or(0));
    }
}

/// What may not stand in a label's value as it is.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// Reads a scrape strictly, as a scraper would: gives each line's name, labels and value.
    /// Fails on what `promtool check metrics` calls an error.
    pub(crate) fn read(text: &str) -> HashMap<(String, String), f64> {
        let (mut seen, mut families) = (HashMap::new(), HashSet::new());
        let mut family: Option<(String, String)> = None;
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned()), "{name} twice");
                assert!(!words.is_empty() && name_is_fine(name), "{line}");
                family = Some((name.to_owned(), String::new()));
                continue;
            }
            let (name, kind) = family.as_mut().unwrap();
            if let Some(told) = line.strip_prefix("# TYPE ") {
                assert_eq!(told.split_once(' ').map(|(n, _)| n), Some(name.as_str()), "{line}");
                *kind = told.split_once(' ').unwrap().1.to_owned();
                continue;
            }
            let (metric, value) = line.rsplit_once(' ').unwrap();
            let (own, labels) = metric.split_once('{').unwrap_or((metric, "}"));
            let part =
                own.strip_prefix(name.as_str()).unwrap_or_else(|| panic!("{line} in {name}"));
            let parts: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.contains(&part), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(kind != "counter" || value >= 0.0, "{line}");
            labels_are_fine(labels.strip_suffix('}').unwrap());
            let before = seen.insert((own.to_owned(), labels.to_owned()), value);
            assert!(before.is_none(), "{line} twice");
        }
        seen
    }

    fn name_is_fine(name: &str) -> bool {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }

    fn labels_are_fine(labels: &str) {
        let mut rest = labels;
        let mut names = HashSet::new();
        while !rest.is_empty() {
            let (name, behind) = rest.split_once("=\"").unwrap();
            assert!(name_is_fine(name) && names.insert(name.to_owned()), "{labels}");
            let mut end = None;
            let mut escaped = false;
            for (at, character) in behind.char_indices() {
                match character {
                    _ if escaped => {
                        assert!("\\\"n".contains(character), "{labels}");
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = Some(at);
                        break;
                    }
                    _ => {}
                }
            }
            rest = &behind[end.unwrap() + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }

    #[test]
    fn families_have_heads_and_labels_are_escaped() {
        let mut text = Text::default();
        text.single("a_total", "What it is.", Kind::Counter, 3);
        let mut family = text.family("b", "Another.", Kind::Gauge);
        family.line(&[("x", "a\"b\\c\nd"), ("y", "")], 1.5);
        let text = String::from_utf8(text.finish()).unwrap();
        assert_eq!(
            text,
            "# HELP a_total What it is.\n# TYPE a_total counter\na_total 3\n# HELP b Another.\n\
             # TYPE b gauge\nb{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 1.5\n"
        );
        assert_eq!(read(&text).len(), 2);
    }

    #[test]
    fn buckets_add_up() {
        let mut text = Text::default();
        let mut family = text.family("t_ms", "Time.", Kind::Histogram);
        family.histogram(&[("s", "x")], &[1, 2], &[3, 1, 2, 40]);
        let text = String::from_utf8(text.finish()).unwrap();
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "t_ms_bucket{s=\"x\",le=\"1\"} 3",
                "t_ms_bucket{s=\"x\",le=\"2\"} 4",
                "t_ms_bucket{s=\"x\",le=\"+Inf\"} 6",
                "t_ms_count{s=\"x\"} 6",
                "t_ms_sum{s=\"x\"} 40",
            ]
        );
        read(&text);
    }
}
