//! The style of the house, over every file of the workspace.

use std::fs;

use tidy::{
    rules::{RATCHET, RULES, faults},
    tree::{IMPORTS, root, sources, strange_folders, strange_imports},
};

#[test]
fn every_file_keeps_every_rule() {
    let sources = sources().unwrap();
    assert!(sources.len() >= 40, "only {} files were found", sources.len());
    let mut report = String::new();
    for rule in RULES {
        for fault in faults(rule, &sources, RATCHET) {
            report += &format!("{}:{}: [{}] {}\n", fault.path, fault.line, rule.name, fault.words);
        }
    }
    assert!(report.is_empty(), "\n{report}{} faults", report.lines().count());
}

#[test]
fn the_ratchet_names_files_that_exist() {
    let sources = sources().unwrap();
    for (path, rule, _) in RATCHET {
        assert!(sources.iter().any(|source| source.path == *path), "{path} is gone: drop its line");
        assert!(RULES.iter().any(|known| known.name == *rule), "there is no rule {rule}");
    }
}

#[test]
fn crates_import_only_along_the_arrows() {
    for (name, _) in IMPORTS {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
        let strange = strange_imports(name, &manifest);
        assert!(strange.is_empty(), "{name}/Cargo.toml may not import {strange:?}");
    }
}

#[test]
fn every_crate_is_in_the_table_of_imports() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        assert!(IMPORTS.iter().any(|(name, _)| *name == member), "{member} has no arrows");
    }
}

#[test]
fn no_folder_stands_at_the_top_that_nobody_decided_on() {
    let strange = strange_folders().unwrap();
    assert!(strange.is_empty(), "{strange:?}: the top folders are the architecture");
}
