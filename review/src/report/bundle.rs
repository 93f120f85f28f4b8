//! The scripts of the page as one, for a report that is one file: the modules one behind the other, without their imports.
//!
//! That works because no two of them use a name at their top twice, and each needs only those before it; tests hold both.

use crate::page::ASSETS;

/// The modules joined, in the order of [`ASSETS`].
pub(super) fn script() -> String {
    let mut out = String::from("(() => {\n\"use strict\";\n");
    for asset in ASSETS.iter().filter(|asset| asset.path.ends_with(".js")) {
        for line in String::from_utf8_lossy(asset.bytes).lines() {
            let line = line.strip_prefix("export ").unwrap_or(line);
            // Comments are for those who read the modules.
            if !line.starts_with("import ") && !line.trim_start().starts_with("//") && !line.is_empty() {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out.push_str("})();\n");
    out
}

/// The style sheet.
pub(super) fn style() -> String {
    let sheet = ASSETS.iter().find(|asset| asset.path == "style.css");
    sheet.map(|asset| String::from_utf8_lossy(asset.bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn modules() -> Vec<(&'static str, String)> {
        let scripts = ASSETS.iter().filter(|asset| asset.path.ends_with(".js"));
        scripts.map(|asset| (asset.path, String::from_utf8(asset.bytes.to_vec()).unwrap())).collect()
    }

    /// The name that a line at the top of a module declares.
    fn declared(line: &str) -> Option<&str> {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let line = line.strip_prefix("async ").unwrap_or(line);
        let rest = ["function ", "const ", "let ", "class "].iter().find_map(|word| line.strip_prefix(word))?;
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
        Some(&rest[..end])
    }

    #[test]
    fn no_two_modules_use_one_name_and_each_imports_only_what_stands_before_it() {
        let mut owner: BTreeMap<String, &str> = BTreeMap::new();
        let mut exported: BTreeSet<(String, String)> = BTreeSet::new();
        let mut count = 0;
        for (path, text) in modules() {
            for line in text.lines() {
                if let Some(name) = declared(line) {
                    assert!(!name.is_empty(), "{path}: a pattern is declared at the top: {line}");
                    // `let a = 1, b = 2` would hide a name from this test.
                    let several = (line.starts_with("let ") || line.starts_with("const "))
                        && line.contains(", ")
                        && line.ends_with(';');
                    for name in if several { several_names(line) } else { vec![name.to_owned()] } {
                        assert_eq!(owner.insert(name.clone(), path), None, "{path} declares {name}, which is taken");
                        if line.starts_with("export ") {
                            exported.insert((path.to_owned(), name));
                        }
                    }
                }
                if let Some(rest) = line.strip_prefix("import { ") {
                    let (names, from) =
                        rest.split_once(" } from \"./").expect("one line, names in braces, a path beside it");
                    let from = from.strip_suffix("\";").expect("an import ends its line");
                    for name in names.split(", ") {
                        assert!(
                            exported.contains(&(from.to_owned(), name.to_owned())),
                            "{path} imports {name} of {from}, which is no module before it that exports it"
                        );
                        count += 1;
                    }
                } else {
                    assert!(!line.starts_with("import"), "{path}: {line}");
                    assert!(!line.starts_with("export {") && !line.starts_with("export default"), "{path}: {line}");
                }
            }
        }
        assert!(count > 80, "only {count} imports were looked at");
    }

    /// The names of `let a = null, b = null;`: those before an equals sign at depth 0.
    fn several_names(line: &str) -> Vec<String> {
        let rest = line.split_once(' ').unwrap().1;
        let (mut depth, mut quoted, mut piece, mut pieces) = (0, false, String::new(), Vec::new());
        for c in rest.chars() {
            match c {
                '"' => quoted = !quoted,
                '(' | '[' | '{' if !quoted => depth += 1,
                ')' | ']' | '}' if !quoted => depth -= 1,
                ',' if depth == 0 && !quoted => {
                    pieces.push(std::mem::take(&mut piece));
                    continue;
                }
                _ => {}
            }
            piece.push(c);
        }
        pieces.push(piece);
        pieces.iter().filter_map(|p| p.split('=').next()).map(|p| p.trim().trim_end_matches(';').to_owned()).collect()
    }

    #[test]
    fn the_page_makes_no_markup_out_of_text_and_runs_none() {
        for (path, text) in modules() {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "setAttribute(\"on",
                "srcdoc",
                "DOMParser",
                "http://",
                "https://",
                "createContextualFragment",
                "setHTML",
            ] {
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
        let index = ASSETS.iter().find(|asset| asset.path == "index.html").unwrap();
        let index = String::from_utf8_lossy(index.bytes);
        assert!(
            !index.contains(" on") && !index.contains("style=") && index.matches("<script").count() == 1,
            "{index}"
        );
    }

    #[test]
    fn the_bundle_is_one_function_without_imports_whose_brackets_close() {
        let script = script();
        assert!(!script.contains("\nimport ") && !script.contains("\nexport "));
        assert!(!script.contains("</script") && !script.contains("<!--"), "it would end its own element");
        assert!(
            script.starts_with("(() => {\n") && script.ends_with("begin();\n})();\n"),
            "{}",
            &script[script.len() - 60..]
        );
        assert_eq!(script, super::script());
    }
}
