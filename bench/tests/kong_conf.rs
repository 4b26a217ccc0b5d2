//! Keeps `deploy/kong.conf.default` equal to the table of settings: the test writes the file and
//! asks for a second run, so that the reference can never say what the program does not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fmt::Write, fs, path::Path};

use store::conf::table::{Kind, Setting, Standing, TABLE};

const COLUMNS_MAX: usize = 100;
const OPENING: &str = "\
# Every setting of kong.conf, each with its default. Copy what you change to /etc/kong/kong.conf, or
# set it in the environment: log_level is KONG_LOG_LEVEL. Written by a test from the table of
# settings (store/src/conf/table.rs), never by hand.
";

#[test]
fn the_reference_is_the_table() {
    let mut text = String::from(OPENING);
    let parts = [
        (Standing::Built, "Settings"),
        (Standing::Later, "Known and not built yet: named in one line at start"),
        (
            Standing::Moot,
            "Known and without effect: they tune parts of Kong that do not exist here",
        ),
    ];
    for (standing, title) in parts {
        write!(text, "\n# {}\n# {title}\n# {}\n", "-".repeat(70), "-".repeat(70)).unwrap();
        for setting in TABLE.iter().filter(|setting| setting.standing == standing) {
            describe(setting, &mut text);
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kong.conf.default");
    if fs::read_to_string(&file).unwrap_or_default() != text {
        fs::write(&file, text).unwrap();
        panic!("the reference was out of date and has been written: run the tests again");
    }
}

/// One setting: its default, switched off by a comment sign, and what it means.
fn describe(setting: &Setting, text: &mut String) {
    let words = match setting.kind {
        Kind::Choice(words) => format!("{} One of: {}.", setting.about, words.join(", ")),
        Kind::Flag | Kind::Switch => format!("{} on or off.", setting.about),
        Kind::List => format!("{} A list with commas.", setting.about),
        Kind::Text | Kind::Number => setting.about.to_owned(),
    };
    let head = format!("#{} = {}", setting.name, setting.default);
    writeln!(text, "\n{}", head.trim_end()).unwrap();
    let mut line = String::from("#    ");
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS_MAX {
            writeln!(text, "{line}").unwrap();
            line = String::from("#    ");
        }
        write!(line, " {word}").unwrap();
    }
    writeln!(text, "{line}").unwrap();
}
