//! `casefile verify`: every byte, every problem, and by whom it was signed.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use casefile_evidence::archive::limits::Limits;
use casefile_evidence::archive::reader::{Archive, OpenError};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::verify::{Problem, SignatureState, Verification};
use casefile_proto::units::Bytes;
use casefile_review::display::safe;

use crate::args::Format;
use crate::{Ended, output};

/// An allowed-signers file of thousands of keys is smaller.
const MAX_SIGNERS: u64 = 1 << 20;

/// Verifies a case file.
pub(crate) fn run(file: &Path, signers: Option<&Path>, format: Format) -> Result<Ended> {
    let signers = signers.map_or_else(|| Ok(AllowedSigners::default()), read_signers)?;
    let found = match Archive::open(file, Limits::default()) {
        Ok(mut archive) => archive.verify(&signers),
        // Whoever asks whether it is as it was sealed has the answer: it is not.
        Err(OpenError::Refused { why, .. }) => refused(why),
        Err(error) => return Err(error.into()),
    };
    output::one(format, &found, || text(file, &found))?;
    let broken = matches!(found.signature, SignatureState::Broken { .. });
    Ok(if found.problems.is_empty() && !broken { Ended::Done } else { Ended::Damage })
}

/// A file of which nothing could be looked at: cut off before its first entry, or no case file at all.
fn refused(why: String) -> Verification {
    let signature =
        SignatureState::Broken { why: "nothing of the file was believed, so none was looked for".to_owned() };
    Verification { entries: 0, bytes: 0, problems: vec![Problem { entry: None, what: why }], signature }
}

fn read_signers(path: &Path) -> Result<AllowedSigners> {
    let mut text = String::new();
    File::open(path)
        .and_then(|f| f.take(MAX_SIGNERS).read_to_string(&mut text))
        .with_context(|| format!("read the allowed signers in {}", path.display()))?;
    Ok(AllowedSigners::parse(&text))
}

fn text(file: &Path, found: &Verification) -> String {
    let name = safe(&file.display().to_string());
    let mut out = if found.problems.is_empty() {
        format!("intact     {name}: {} entries, {} of content, every byte checked\n", found.entries, Bytes(found.bytes))
    } else {
        format!("DAMAGED    {name}: {} problem(s)\n", found.problems.len())
    };
    for problem in &found.problems {
        let entry = problem.entry.as_deref().unwrap_or("(the file itself)");
        out.push_str(&format!("  {}: {}\n", safe(entry), safe(&problem.what)));
    }
    out.push_str(&match &found.signature {
        SignatureState::Good { fingerprint } => format!("signed     by a key that you believe: {fingerprint}\n"),
        SignatureState::UnknownKey { fingerprint } => {
            format!("signed     by {fingerprint}, which nobody told me to believe (--signers FILE does)\n")
        }
        SignatureState::Unsigned => "unsigned   anybody could have made it\n".to_owned(),
        SignatureState::Broken { why } => format!("BROKEN SIGNATURE: {}\n", safe(why)),
    });
    out
}
