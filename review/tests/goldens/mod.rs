//! What people read, held against what was agreed. `UPDATE_GOLDEN=1` takes over what there is now.

use std::path::Path;

/// Holds a text against `tests/golden/NAME`.
pub(crate) fn golden(name: &str, text: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    let (now, kept) = (String::from_utf8_lossy(text), String::from_utf8_lossy(&kept));
    assert_eq!(now, kept, "{name} changed; UPDATE_GOLDEN=1 takes it over");
}
