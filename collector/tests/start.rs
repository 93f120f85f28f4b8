//! A collector as a whole: started, found, refused to a second one, stopped, started again.

use std::net::Ipv4Addr;
use std::time::Duration;

use casefile_collector::config::{Config, PortTaken};
use casefile_collector::{Collector, StartError, data::DataError};

const GRACE: Duration = Duration::from_secs(10);

fn config(dir: &std::path::Path) -> Config {
    let mut config = Config::new(dir.join("data"));
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config
}

fn address(dir: &std::path::Path) -> Option<String> {
    let bytes = std::fs::read(dir.join("data/address")).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[tokio::test]
async fn a_collector_is_found_by_its_address_file_and_hears() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::start(config(dir.path())).await.unwrap();
    let address = address(dir.path()).unwrap();
    assert_eq!(address, collector.addr().to_string());
    drop(tokio::net::TcpStream::connect(&address).await.unwrap());
    collector.stop(GRACE).await;
    assert_eq!(self::address(dir.path()), None, "nobody is sent where nobody listens");
}

#[tokio::test]
async fn a_second_collector_on_the_same_directory_is_refused_until_the_first_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let first = Collector::start(config(dir.path())).await.unwrap();
    let Err(refused) = Collector::start(config(dir.path())).await else { panic!("it started") };
    assert!(matches!(refused, StartError::Data(DataError::InUse { .. })), "{refused}");
    assert!(refused.to_string().contains("in use by another collector"), "{refused}");
    first.stop(GRACE).await;
    Collector::start(config(dir.path())).await.unwrap().stop(GRACE).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_or_another_one_found_as_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(dir.path());
    config.listen = taken.local_addr().unwrap();
    let Err(refused) = Collector::start(config.clone()).await else { panic!("it started") };
    assert!(matches!(refused, StartError::Listen { .. }), "{refused}");
    config.port_taken = PortTaken::TakeAnother;
    let collector = Collector::start(config.clone()).await.unwrap();
    assert_ne!(collector.addr(), config.listen);
    collector.stop(GRACE).await;
}

#[tokio::test]
async fn a_directory_that_is_none_says_what_it_means() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("data"), "a file").unwrap();
    let Err(refused) = Collector::start(config(dir.path())).await else { panic!("it started") };
    assert!(refused.to_string().starts_with("make the directory"), "{refused}");
}
