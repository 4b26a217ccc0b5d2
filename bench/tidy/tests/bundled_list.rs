//! Keeps `plugins/src/bundled/mod.rs` equal to the files beside it. Adding a plugin is adding its
//! file: this test writes the list and asks for a second run.

use std::fs;

use tidy::tree::root;

#[test]
fn the_list_of_plugins_is_the_folder() {
    let folder = root().join("plugins/src/bundled");
    if !folder.exists() {
        return;
    }
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "mod")
        .collect();
    names.sort();

    let mut list = String::from(
        "//! Every bundled plugin. Written by `bench/tidy/tests/bundled_list.rs`, never by hand.\n\n",
    );
    list.extend(names.iter().map(|name| format!("pub mod {name};\n")));
    list += "\nuse crate::pdk::Spec;\n\n/// Every bundled plugin, by file name.\n";
    list += "#[rustfmt::skip]\npub static ALL: &[&Spec] = &[\n";
    list.extend(names.iter().map(|name| format!("    &{name}::PLUGIN,\n")));
    list += "];\n";

    let file = folder.join("mod.rs");
    if fs::read_to_string(&file).unwrap_or_default() != list {
        fs::write(&file, list).unwrap();
        panic!("the list was out of date and has been written: run the tests again");
    }
}
