//! The order of the modules: `src/lib.rs` lists them lowest first, and each imports only those above it in the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules in the order of `src/lib.rs`.
fn modules() -> Vec<String> {
    let lib = std::fs::read_to_string(source().join("lib.rs")).expect("src/lib.rs");
    let of_line = |line: &str| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    lib.lines().filter_map(of_line).collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files of the library, each with its module.
fn files() -> Vec<(PathBuf, String)> {
    let mut folders = vec![source()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(source()).expect("below src").with_extension("");
                let module = inside.iter().next().expect("a name").to_str().expect("UTF-8");
                files.push((path.clone(), module.to_owned()));
            }
        }
    }
    files.retain(|(_, module)| !["lib", "main", "build"].contains(&module.as_str()));
    files
}

/// The modules that a source file names after `crate::`, alone or in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first_name = |path: &str| -> String { path.trim_start().chars().take_while(|c| is_name(*c)).collect() };
    let mut names = BTreeSet::new();
    for path in text.split("crate::").skip(1) {
        match path.strip_prefix('{') {
            Some(list) => names.extend(list.split('}').next().unwrap_or_default().split(',').map(first_name)),
            None => _ = names.insert(first_name(path)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn each_module_imports_only_modules_above_it_in_the_list() {
    let modules = modules();
    let place = |name: &str| modules.iter().position(|module| module == name);
    let mut wrong = Vec::new();
    let mut n_imports = 0;
    for (path, module) in files() {
        let own = place(&module).unwrap_or_else(|| panic!("src/lib.rs does not list {module}"));
        for import in imports(&std::fs::read_to_string(&path).expect("a source file")) {
            n_imports += 1;
            if place(&import).is_none_or(|other| other > own) {
                wrong.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_imports > 100, "found only {n_imports} imports");
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::entry::EntryId;\nuse crate::{postgres, redis::link};\nlet x = crate::keys::name();";
    let wanted = ["entry", "keys", "postgres", "redis"].map(str::to_owned);
    assert_eq!(imports(text), BTreeSet::from(wanted));
}
