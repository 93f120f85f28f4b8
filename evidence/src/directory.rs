//! Making a directory so that it is still there after a power cut: a file that was synced is lost all the same when the
//! name of its directory was not.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// So many levels are synced also where they were there before: whoever made them may have been killed before it synced
/// their names. Nobody makes more than these at once below what it knows to be there.
const LEVELS: usize = 2;

/// Makes a directory (0700) and what leads to it. When this returns, the names of all of them are on the disk.
pub fn make(dir: &Path) -> io::Result<()> {
    let known = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for (level, made) in dir.ancestors().take(LEVELS.max(known)).enumerate() {
        let Some(parent) = made.parent() else { break };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        // One that was there before may be somebody else's, and then it is not ours to sync.
        if level < known {
            synced?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_that_leads_there_is_made_for_the_owner_alone_and_again_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c/d");
        make(&deep).unwrap();
        make(&deep).unwrap();
        for made in deep.ancestors().take(4) {
            assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
        }
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "x").unwrap();
        assert!(make(&dir.path().join("a/b")).is_err());
    }
}
