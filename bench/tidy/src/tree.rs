//! The files of the workspace, and who imports whom.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::source::Source;

/// The root of the workspace.
///
/// Cargo tells it when the tests run: checkouts that share a build folder do not look into each
/// other.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here).join("../..")
}

/// The crates that may run in the gateway, each with those of ours that it may import.
pub const IMPORTS: &[(&str, &[&str])] = &[
    ("runtime", &[]),
    ("exporter", &["runtime"]),
    ("store", &[]),
    ("plugins", &["runtime", "store", "exporter"]),
    ("proxy", &["runtime", "store", "exporter", "plugins"]),
    ("loadtest", &["runtime"]),
    ("bench", &["runtime", "store", "exporter", "plugins", "proxy"]),
    ("bench/tidy", &[]),
];

/// Every folder that may stand at the top, beside those whose names begin with a dot.
pub const TOP_FOLDERS: &[&str] =
    &["runtime", "proxy", "plugins", "exporter", "store", "bench", "loadtest", "deploy"];

/// Every Rust file of the workspace in order of its path.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn sources() -> io::Result<Vec<Source>> {
    let root = root();
    let mut found = Vec::new();
    for folder in TOP_FOLDERS {
        collect(&root, Path::new(folder), &mut found)?;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if !name.starts_with("target") {
                collect(root, &path, found)?;
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path())?;
            found.push(Source::new(&path.to_string_lossy(), &text));
        }
    }
    Ok(())
}

/// The folders at the top that nobody decided on.
///
/// Skips dot-folders and build output (`target`, `target-…`), which is not committed.
///
/// # Errors
/// The root cannot be read.
pub fn strange_folders() -> io::Result<Vec<String>> {
    let mut strange = Vec::new();
    for entry in fs::read_dir(root())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = name.starts_with(['.', '_'])
            || name.starts_with("target")
            || TOP_FOLDERS.contains(&name.as_str());
        if entry.file_type()?.is_dir() && !known {
            strange.push(name);
        }
    }
    strange.sort();
    Ok(strange)
}

/// The imports in a `Cargo.toml` that the table does not allow.
///
/// `crate_path` is the crate's folder from the root; a crate that is not in [`IMPORTS`] may import
/// nothing of ours. Development dependencies obey the same arrows. `monoio` and `glommio` may be
/// named by `runtime` alone.
pub fn strange_imports(crate_path: &str, manifest: &str) -> Vec<String> {
    let allowed =
        IMPORTS.iter().find(|(name, _)| *name == crate_path).map_or(&[][..], |(_, list)| list);
    let ours = |name: &str| TOP_FOLDERS.contains(&name) || name == "tidy";
    dependencies(manifest)
        .into_iter()
        .filter(|name| {
            let driver = matches!(name.as_str(), "monoio" | "glommio") && crate_path != "runtime";
            driver || (ours(name) && !allowed.contains(&name.as_str()))
        })
        .collect()
}

/// The names of all dependencies of a manifest, of every kind and target.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = section.ends_with("dependencies");
            if let Some((_, name)) = section.rsplit_once("dependencies.") {
                names.push(name.to_owned());
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name: String = line
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                .collect();
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(crate_path: &str, manifest: &str, expected: &[&str]) {
        assert_eq!(strange_imports(crate_path, manifest), expected, "in {manifest}");
    }

    #[test]
    fn only_the_arrows_of_the_design_are_allowed() {
        check("plugins", "[dependencies]\nstore.workspace = true\nlog = \"1\"", &[]);
        check("store", "[dependencies]\nruntime.workspace = true", &["runtime"]);
        check("exporter", "[dev-dependencies]\nproxy = { path = \"../proxy\" }", &["proxy"]);
        check("runtime", "[target.'cfg(unix)'.dependencies]\nplugins = \"1\"", &["plugins"]);
        check("runtime", "[dependencies.store]\nworkspace = true", &["store"]);
        check("new", "[dependencies]\nruntime.workspace = true", &["runtime"]);
        check("proxy", "[features]\nstore = []\n[dependencies]\nmonoio = \"1\"", &["monoio"]);
    }
}
