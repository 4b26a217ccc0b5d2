//! Keeps the table of settings honest: one that is called built is read somewhere.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use store::conf::table::{Standing, TABLE};

/// Built with the road, which lands next; this list can then only become empty.
const AWAITED: &[&str] = &[
    "error_default_type",
    "headers_upstream",
    "nginx_proxy_real_ip_header",
    "nginx_proxy_real_ip_recursive",
    "real_ip_header",
    "real_ip_recursive",
    "trusted_ips",
    "upstream_keepalive_idle_timeout",
    "upstream_keepalive_max_requests",
    "upstream_keepalive_pool_size",
];

/// Files that name settings without acting on them.
const PASSED_OVER: &[&str] = &["conf/table.rs", "conf/faults.rs", "conf/show.rs", "conf/tests.rs"];

/// All sources that may act on settings, without tests.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if !PASSED_OVER.iter().any(|own| path.ends_with(own)) {
            let source = fs::read_to_string(&path).unwrap();
            text.push_str(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}

/// Whether a setting's name stands in the sources, as itself or as what is left of it where names
/// are put together (`{own}ssl_cert`) or nginx's own name is used.
fn is_read(name: &str, text: &str) -> bool {
    let forms = [
        format!("\"{name}\""),
        format!(
            "\"{}\"",
            name.trim_start_matches("nginx_http_").trim_start_matches("nginx_proxy_")
        ),
    ];
    let joined = ["admin_", "status_", ""].iter().any(|own| {
        name.strip_prefix(own).is_some_and(|rest| text.contains(&format!("{{own}}{rest}\"")))
    });
    joined || forms.iter().any(|form| text.contains(form))
}

/// A setting, and those that always say the same as it does.
fn aliases(name: &'static str) -> impl Iterator<Item = &'static str> {
    let own = TABLE.iter().filter(move |setting| setting.name == name);
    let others = TABLE.iter().filter(move |setting| setting.also.contains(&name));
    own.flat_map(|setting| setting.also.iter().copied())
        .chain(others.map(|setting| setting.name))
        .chain([name])
}

#[test]
fn what_is_called_built_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    sources(&root.join("src"), &mut text);
    sources(&root.join("../store/src"), &mut text);
    let idle: Vec<&str> = TABLE
        .iter()
        .filter(|setting| setting.standing == Standing::Built)
        .map(|setting| setting.name)
        .filter(|name| !AWAITED.contains(name) && !aliases(name).any(|name| is_read(name, &text)))
        .collect();
    assert!(idle.is_empty(), "these settings are called built but nobody reads them: {idle:?}");
}
