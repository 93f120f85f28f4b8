//! The report: a case file as one page that opens anywhere, for ever, without a network and without scripts.
//!
//! The same bytes from the same case file. What is in it is bounded (5 MB for twelve nodes over half an hour); what is not, it names.

mod bundle;
mod embedded;
mod fixed;
mod html;

use casefile_proto::units::Bytes;
use sha2::{Digest, Sha256};

use crate::casefile::CaseFile;
use crate::display::safe_json;
use crate::page::documents::Documents;
use html::{Html, json_in_html};

/// The most that is read for a report when an archive is sealed, counted as [`crate::review::SEALING_BUDGET`] is: half as much as
/// for the checks, because each line is shown or counted.
pub const SEALING_BUDGET: Bytes = Bytes::mib(256);

/// The report of a case file with these findings. Never fails: what cannot be read is named in it, and so is what is not read because
/// it lies beyond the budget (bytes of recordings and logs; by bytes and not by time, so that the same evidence gives the same report).
pub fn report_html(case: &mut CaseFile, documents: &Documents, budget: Option<Bytes>) -> Vec<u8> {
    let embedded = embedded::embedded(case, documents, budget);
    let (script, style) = (bundle::script(), bundle::style());
    let mut page = Html::default();
    page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"");
    page.text(&policy(&script, &style));
    page.raw("\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n");
    page.raw("<meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n<title>");
    let incident = &case.incident;
    let name = incident.id.map_or_else(|| incident.title.clone(), |id| format!("{id} {}", incident.title));
    page.text(&name).raw(" · casefile</title>\n<style>");
    let mut page = page.into_text();
    page.push_str(&style);
    page.push_str("</style>\n</head>\n<body>\n");
    let mut body = Html::default();
    fixed::fixed(&mut body, case, documents, &embedded.left);
    page.push_str(&body.into_text());
    page.push_str("<script id=\"casefile-data\" type=\"application/json\">");
    page.push_str(&json_in_html(&safe_json(embedded.json.to_string())));
    page.push_str("</script>\n<script>");
    page.push_str(&script);
    page.push_str("</script>\n</body>\n</html>\n");
    page.into_bytes()
}

/// What the report may do: run the one script that was written here, and nothing that anybody put into its texts.
fn policy(script: &str, style: &str) -> String {
    let hash = |text: &str| format!("'sha256-{}'", base64(&Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(script),
        hash(style)
    )
}

/// Base 64 of 32 bytes, as a policy has it (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0_u32, |bits, (n, byte)| bits | u32::from(*byte) << (16 - 8 * n));
        for n in 0..4 {
            let digit = (bits >> (18 - 6 * n) & 63) as usize;
            out.push(if n <= three.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_64_is_that_of_the_standard() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        let empty = policy("", "");
        assert!(empty.contains("script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"), "{empty}");
    }
}
