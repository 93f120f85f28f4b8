//! What is said of a store that fails, over a server of canned answers.

use std::path::PathBuf;

use casefile_proto::time::WallTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What must be in no text.
const KEY: &str = "AKIAHIDDEN";
const SECRET: &str = "c2VjcmV0";

fn archive(bytes: &[u8]) -> SealedArchive {
    SealedArchive {
        file_name: "INC-000001.tar.gz".to_owned(),
        size: bytes.len() as u64,
        sha256: sha256(Sha256::new_with_prefix(bytes)),
        sealed_at: WallTime::from_secs(0),
        whole: true,
        revision: 1,
        kept: None,
    }
}

/// A server that gives every request this answer; its address.
async fn server(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                // The head is enough to answer; what follows is thrown away with the connection.
                while !seen.windows(4).any(|w| w == b"\r\n\r\n") && stream.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
                let _gone = stream.write_all(answer.as_bytes()).await;
                let _gone = stream.shutdown().await;
                while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    format!("http://{addr}")
}

fn answer(status: &str, code: &str) -> String {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{SECRET}</Message><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>"
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn bucket(endpoint: &str, dir: &tempfile::TempDir) -> (Bucket, PathBuf) {
    let credentials = dir.path().join("credentials");
    std::fs::write(&credentials, format!("aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")).unwrap();
    let config = StoreConfig {
        bucket: "evidence".to_owned(),
        prefix: "case/files".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        region: "us-east-1".to_owned(),
        credentials: Some(credentials),
        ca: None,
        plain: true,
    };
    let file = dir.path().join("archive");
    std::fs::write(&file, b"bytes").unwrap();
    (Bucket::open(&config).unwrap(), file)
}

#[tokio::test]
async fn what_the_store_says_becomes_a_kind_and_a_code_and_no_key_is_repeated() {
    for (status, code, kind) in [
        ("403 Forbidden", "InvalidAccessKeyId", Failure::Refused),
        ("401 Unauthorized", "AccessDenied", Failure::Refused),
        ("400 Bad Request", "ExpiredToken", Failure::Refused),
        ("404 Not Found", "NoSuchBucket", Failure::NotFound),
        ("500 Internal Server Error", "Oops", Failure::Other),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (bucket, file) = bucket(&server(answer(status, code)).await, &dir);
        let failed = bucket.put(&archive(b"bytes"), &file).await.unwrap_err();
        assert_eq!(failed.kind, kind, "{status}: {failed}");
        assert!(failed.text.ends_with(&format!("({code})")), "{failed}");
        assert!(!failed.text.contains(KEY) && !failed.text.contains(SECRET), "{failed}");
        let failed = bucket.read(&archive(b"bytes"), None).await.unwrap_err();
        assert_eq!(failed.kind, kind, "{status}: {failed}");
        let failed = bucket.knock().await.unwrap_err();
        assert_eq!((failed.kind, failed.text.contains(code)), (kind, true), "{status}: {failed}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_no_key_is_told_with_the_file_that_lacks_it() {
    let dir = tempfile::tempdir().unwrap();
    // Bound, and then free again: nobody listens there.
    let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (bucket, _) = bucket(&format!("http://{addr}"), &dir);
    assert_eq!(bucket.size(&archive(b"bytes")).await.unwrap_err().kind, Failure::Unreachable);
    std::fs::write(dir.path().join("credentials"), format!("aws_secret_access_key = {SECRET}\n")).unwrap();
    let failed = bucket.size(&archive(b"bytes")).await.unwrap_err();
    assert_eq!(failed.kind, Failure::Credentials);
    assert!(failed.text.contains("/credentials has no aws_access_key_id") && !failed.text.contains(SECRET), "{failed}");
}

#[tokio::test]
async fn nothing_under_a_name_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, _) = bucket(
        &server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()).await,
        &dir,
    );
    assert_eq!(bucket.size(&archive(b"bytes")).await, Ok(None));
}

#[test]
fn certificates_that_are_none_are_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    assert!(matches!(certificates(&path), Err(BucketError::Certificates { .. })));
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(certificates(&path), Err(BucketError::NoCertificate { .. })));
}
