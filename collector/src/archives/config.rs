//! What an operator says of the archive store: the table `[archive_store]` of the collector's configuration. Its keys are
//! documented with the others, in `config.rs`. No key of it is a secret.

use std::path::PathBuf;

use serde::Deserialize;

/// The longest prefix: names of archives are short, and S3 takes keys of 1,024 bytes.
const MAX_PREFIX: usize = 512;

/// The table, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The bucket.
    pub bucket: String,
    /// What stands before the name of each archive; empty: nothing.
    pub prefix: String,
    /// `https://HOST[:PORT]` of a store that is not Amazon's; `None`: Amazon's of that region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// A file with an access key; `None`: as S3 clients find one, in the environment, by web identity, from the machine.
    pub credentials: Option<PathBuf>,
    /// Certificates of authorities that the store's own may come from, beside those of the system.
    pub ca: Option<PathBuf>,
    /// Whether it may be spoken to without TLS.
    pub plain: bool,
}

impl StoreConfig {
    /// The name of the store: what the index remembers of a copy, and what people are told.
    pub fn name(&self) -> String {
        let Self { bucket, prefix, endpoint, .. } = self;
        let slash = if prefix.is_empty() { "" } else { "/" };
        let at = endpoint.as_ref().map_or(String::new(), |endpoint| format!(" at {endpoint}"));
        format!("s3://{bucket}{slash}{prefix}{at}")
    }
}

/// The table as written. A key that is not known is refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    url: String,
    endpoint: Option<String>,
    region: Option<String>,
    credentials_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_http: bool,
}

impl StoreConfig {
    /// Checks the table; what is wrong goes to `problems`, and the result counts only when nothing does.
    pub(crate) fn check(table: Table, problems: &mut Vec<String>) -> Self {
        let place = place(&table.url);
        if place.is_none() {
            problems.push(
                "archive_store.url: is no s3://BUCKET or s3://BUCKET/PREFIX such as s3://evidence/casefile".to_owned(),
            );
        }
        let (bucket, prefix) = place.unwrap_or_default();
        let endpoint = table.endpoint.filter(|text| !text.is_empty()).map(|text| text.trim_end_matches('/').to_owned());
        match endpoint.as_deref().map(|text| (is_endpoint(text), text.starts_with("http://"))) {
            Some((false, _)) => problems.push(
                "archive_store.endpoint: is no https://HOST or https://HOST:PORT; who we are is never a part of it".to_owned(),
            ),
            Some((true, true)) if !table.allow_http => problems.push(
                "archive_store.endpoint: is http://, so archives could be read on their way: allow_http = true says that \
                 this is wanted"
                    .to_owned(),
            ),
            _ => {}
        }
        let region = table.region.filter(|text| !text.is_empty());
        if region.as_deref().is_some_and(|text| !text.bytes().all(is_label_byte)) {
            problems.push("archive_store.region: has letters, digits and '-', as eu-central-1 has".to_owned());
        }
        if region.is_none() && endpoint.is_none() {
            problems.push("archive_store.region: must be said where there is no endpoint".to_owned());
        }
        for (key, path) in [("credentials_file", &table.credentials_file), ("ca_file", &table.ca_file)] {
            if path.as_deref().is_some_and(|path| !path.is_absolute()) {
                problems.push(format!("archive_store.{key}: is not an absolute path"));
            }
        }
        Self {
            bucket,
            prefix,
            endpoint,
            // What stores that have no regions take.
            region: region.unwrap_or_else(|| "us-east-1".to_owned()),
            credentials: table.credentials_file,
            ca: table.ca_file,
            plain: table.allow_http,
        }
    }
}

const fn is_label_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

/// Bucket and prefix of a URL.
fn place(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("s3://")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let is_bucket = (3..=63).contains(&bucket.len()) && bucket.bytes().all(byte) && !bucket.contains("..");
    // What needs no escape in any key of S3, so that it is the same word everywhere.
    let is_part = |part: &str| {
        let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=');
        !part.is_empty() && part.bytes().all(byte) && part != "." && part != ".."
    };
    let is_prefix = prefix.len() <= MAX_PREFIX && (prefix.is_empty() || prefix.split('/').all(is_part));
    (is_bucket && is_prefix).then(|| (bucket.to_owned(), prefix.to_owned()))
}

/// Whether this is a scheme and a host, perhaps with a port, and nothing else.
fn is_endpoint(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'[' | b']');
    host.is_some_and(|host| (1..=261).contains(&host.len()) && host.bytes().all(byte) && !host.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<StoreConfig, Vec<String>> {
        let mut problems = Vec::new();
        let config = StoreConfig::check(toml::from_str(text).unwrap(), &mut problems);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    #[test]
    fn amazons_store_needs_a_url_and_a_region() {
        let config = check("url = \"s3://evidence/case/files/\"\nregion = \"eu-central-1\"").unwrap();
        assert_eq!((config.bucket.as_str(), config.prefix.as_str()), ("evidence", "case/files"));
        assert_eq!((config.name().as_str(), config.plain), ("s3://evidence/case/files", false));
        let problems = check("url = \"s3://evidence\"").unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with("archive_store.region"), "{problems:?}");
    }

    #[test]
    fn another_store_is_known_by_its_endpoint_too() {
        let config = check("url = \"s3://evidence\"\nendpoint = \"https://s3.example:9000/\"").unwrap();
        assert_eq!(config.name(), "s3://evidence at https://s3.example:9000");
        assert_eq!(config.region, "us-east-1");
    }

    #[test]
    fn without_tls_it_goes_only_by_an_explicit_word() {
        let text = "url = \"s3://evidence\"\nendpoint = \"http://127.0.0.1:9000\"";
        assert!(check(text).unwrap_err()[0].contains("allow_http"));
        assert!(check(&format!("{text}\nallow_http = true")).unwrap().plain);
    }

    #[test]
    fn what_is_no_place_and_no_endpoint_is_refused_and_not_repeated() {
        for url in [
            "",
            "evidence",
            "https://x/y",
            "s3://",
            "s3://ab",
            "s3://Evidence",
            "s3://a..b",
            "s3://abc//d",
            "s3://abc/../d",
            "s3://k:secret@abc",
            "s3://abc/d?x=secret",
        ] {
            let problems = check(&format!("url = \"{url}\"\nregion = \"r\"")).unwrap_err();
            assert!(problems.len() == 1 && !problems[0].contains("secret"), "{url}: {problems:?}");
        }
        for endpoint in
            ["s3.example", "https://", "https://k:secret@s3.example", "https://s3.example/path", "ftp://s3.example"]
        {
            let problems = check(&format!("url = \"s3://abc\"\nendpoint = \"{endpoint}\"")).unwrap_err();
            assert!(problems.len() == 1 && !problems[0].contains("secret"), "{endpoint}: {problems:?}");
        }
    }
}
