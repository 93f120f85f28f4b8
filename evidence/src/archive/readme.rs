//! `README.txt`: what this is, how to verify it with stock tools and how to read it, for someone who found the file.

use super::bag::{MANIFEST, SIGNATURE, TAG_MANIFEST};
use super::sign::{NAMESPACE, PRINCIPAL};
use super::{Title, one_line};

/// The text; `fingerprint` of the key that signs, if one does.
pub(crate) fn text(title: &Title, fingerprint: Option<&str>) -> String {
    let ask = &title.ask;
    let name = title.name();
    let signed = match fingerprint {
        Some(fingerprint) => format!("by the key {fingerprint} ({SIGNATURE})"),
        None => "not signed: it can be checked for damage, and not for who made it".to_owned(),
    };
    let believe = match fingerprint {
        Some(_) => format!(
            "3. Was it sealed by whom you believe? Write the line that \"casefile-collector key\" prints there to a file\n   \
             allowed_signers, then:\n\n       \
             ssh-keygen -Y verify -f allowed_signers -I {PRINCIPAL} -n {NAMESPACE} -s {SIGNATURE} < {TAG_MANIFEST}\n"
        ),
        None => "3. It is not signed, so there is nothing here to verify who sealed it.\n".to_owned(),
    };
    let amends = title.amends.as_ref().map_or_else(String::new, |before| {
        format!(
            "  amends    {} and contains everything of it; what is new, coverage.json says\n",
            one_line(&before.file_name)
        )
    });
    format!(
        "This is a case file: what nodes of a cluster recorded around an incident, sealed by Casefile.\n\
         \n  \
         what      {}\n  \
         window    {} up to, and without, {}\n  \
         sealed    {} by {}\n  \
         signed    {signed}\n\
         {amends}\n\
         data/incident.json says what was asked and why. data/coverage.json lists what is here, and what is missing and why.\n\
         \n\
         To verify it with stock tools, in this directory:\n\
         \n\
         1. Is every piece of evidence as it was sealed?\n\
         \n       \
         sha256sum --quiet -c {MANIFEST}\n\
         \n\
         2. Is the list of evidence as it was sealed?\n\
         \n       \
         sha256sum --quiet -c {TAG_MANIFEST}\n\
         \n\
         {believe}\
         \n\
         To verify and read the archive itself, without unpacking it:\n\
         \n       \
         casefile verify {name}.tar.gz\n       \
         casefile show {name}.tar.gz\n\
         \n\
         Logs are plain text below data/nodes/. This directory is a bag (RFC 8493); casefile-index only helps to find entries.\n",
        one_line(&ask.title),
        ask.window.from(),
        ask.window.until(),
        title.sealed_at.to_seconds_text(),
        one_line(&title.sealed_by),
    )
}
