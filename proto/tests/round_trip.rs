//! Every domain value survives the wire, and whatever comes from the wire is a value or an error: never a panic, never
//! something that breaks the limits.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod values;

use casefile_proto::connectivity::{Judged, TargetList, TestAsk};
use casefile_proto::convert::{ConvertError, Problem};
use casefile_proto::coverage::Coverage;
use casefile_proto::identity::{EnrolAsk, Enrolled, NewToken, TokenAsk, TokenId, TokenInfo};
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{
    ArchivePiece, DownloadAsk, IncidentDetail, IncidentPage, IncidentSummary, IncidentView, ListAsk, OpenAsk,
};
use casefile_proto::node::NodeList;
use casefile_proto::session::{FromAgent, ToAgent, UploadAnswer, UploadPart};
use casefile_proto::wire::v1;
use proptest::prelude::*;
use prost::Message;

/// Through bytes and back.
fn wired<D, W>(value: D) -> Result<D, ConvertError>
where
    D: TryFrom<W, Error = ConvertError>,
    W: From<D> + Message + Default,
{
    D::try_from(W::decode(W::from(value).encode_to_vec().as_slice()).unwrap())
}

/// Bytes as a message, and what it is in the domain, if anything.
fn taken<D, W>(bytes: &[u8])
where
    D: TryFrom<W, Error = ConvertError> + PartialEq + Clone + std::fmt::Debug,
    W: From<D> + Message + Default,
{
    if let Ok(message) = W::decode(bytes)
        && let Ok(value) = D::try_from(message)
    {
        // What was accepted once is accepted again and says the same.
        assert_eq!(wired::<D, W>(value.clone()), Ok(value));
    }
}

macro_rules! round_trips {
    ($($name:ident: $strategy:expr, $domain:ty, $wire:ty;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test]
            fn $name(value in $strategy) {
                prop_assert_eq!(wired::<$domain, $wire>(value.clone()), Ok(value));
            })*
        }

        /// Bytes that are nearly a message: a good one with some bytes changed, cut, or appended.
        fn nearly() -> impl Strategy<Value = Vec<u8>> {
            let good = prop_oneof![$($strategy.prop_map(|v| <$wire>::from(v).encode_to_vec()),)*];
            let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
            (good, changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut bytes, changes, cut, keep)| {
                for (at, byte) in changes {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = byte;
                    }
                }
                if !keep && !bytes.is_empty() {
                    bytes.truncate(cut.index(bytes.len()));
                }
                bytes
            })
        }

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(512))]
            #[test]
            fn any_bytes_are_a_value_or_an_error(
                bytes in prop_oneof![nearly(), prop::collection::vec(any::<u8>(), 0..200)]
            ) {
                $(taken::<$domain, $wire>(&bytes);)*
            }
        }
    };
}

round_trips! {
    what_an_agent_says_comes_back: values::from_agent(), FromAgent, v1::SessionRequest;
    what_a_collector_says_comes_back: values::to_agent(), ToAgent, v1::SessionResponse;
    an_upload_comes_back: values::upload_part(), UploadPart, v1::UploadRequest;
    answers_to_an_upload_come_back: values::upload_answer(), UploadAnswer, v1::UploadResponse;
    a_coverage_comes_back: values::coverage(), Coverage, v1::Coverage;
    what_opens_an_incident_comes_back: values::open_ask(), OpenAsk, v1::OpenIncidentRequest;
    an_opened_incident_comes_back: values::incident(), IncidentSummary, v1::OpenIncidentResponse;
    the_name_of_an_incident_comes_back: values::incident_id(), IncidentId, v1::GetIncidentRequest;
    the_name_of_a_watched_incident_comes_back: values::incident_id(), IncidentId, v1::WatchIncidentRequest;
    an_incident_with_its_coverage_comes_back: values::detail(), IncidentDetail, v1::GetIncidentResponse;
    an_incident_at_one_moment_comes_back: values::view(), IncidentView, v1::WatchIncidentResponse;
    which_page_comes_back: values::list_ask(), ListAsk, v1::ListIncidentsRequest;
    a_page_comes_back: values::page(), IncidentPage, v1::ListIncidentsResponse;
    which_archive_comes_back: values::download_ask(), DownloadAsk, v1::DownloadArchiveRequest;
    a_piece_of_an_archive_comes_back: values::archive_piece(), ArchivePiece, v1::DownloadArchiveResponse;
    nodes_come_back: values::nodes(), NodeList, v1::ListNodesResponse;
    what_is_asked_of_connectivity_comes_back: values::connectivity::test_ask(), TestAsk, v1::TestConnectivityRequest;
    what_may_be_tested_comes_back: values::connectivity::target_list(), TargetList, v1::ListTargetsResponse;
    a_judged_test_comes_back: values::connectivity::judged(), Judged, v1::TestConnectivityResponse;
    who_wants_a_certificate_comes_back: values::identity::enrol_ask(), EnrolAsk, v1::EnrolRequest;
    a_certificate_comes_back: values::identity::enrolled(), Enrolled, v1::EnrolResponse;
    which_token_is_wanted_comes_back: values::identity::token_ask(), TokenAsk, v1::CreateTokenRequest;
    a_new_token_comes_back: values::identity::new_token(), NewToken, v1::CreateTokenResponse;
    tokens_come_back: values::identity::tokens(), Vec<TokenInfo>, v1::ListTokensResponse;
    the_id_of_a_token_comes_back: values::identity::token_id(), TokenId, v1::RevokeTokenRequest;
}

#[test]
fn an_error_names_message_and_field() {
    let gap = v1::Gap { reason: 99, ..v1::Gap::default() };
    let error = casefile_proto::gap::Gap::try_from(gap).unwrap_err();
    assert_eq!((error.message, error.field), ("Gap", "reason"));
    assert_eq!(error.to_string(), "Gap.reason: is 99, which is out of range");
    let hello = v1::SessionRequest { message: Some(v1::session_request::Message::Hello(v1::Hello::default())) };
    assert_eq!(FromAgent::try_from(hello).unwrap_err().to_string(), "Hello.node: node name \"\": is empty");
    let missing = FromAgent::try_from(v1::SessionRequest { message: None }).unwrap_err();
    assert_eq!(missing.problem, Problem::Missing);
}

#[test]
fn what_is_longer_than_its_limit_is_refused() {
    let refused = |error: ConvertError| (error.message, error.field);
    let gap = v1::Gap { reason: 1, detail: "x".repeat(1025), ..v1::Gap::default() };
    assert_eq!(casefile_proto::gap::Gap::try_from(gap).map_err(refused), Err(("Gap", "detail")));
    let batch = |records: usize, first_seq, last_seq, continued| v1::SessionRequest {
        message: Some(v1::session_request::Message::Frames(v1::FrameBatch {
            first_seq,
            last_seq,
            records: vec![0; records].into(),
            skipped: Vec::new(),
            continued,
        })),
    };
    let limit = casefile_proto::session::MAX_PAYLOAD;
    assert!(FromAgent::try_from(batch(limit, 1, 1, true)).is_ok());
    for (message, field) in [
        (batch(limit + 1, 1, 1, false), "records"),
        (batch(0, 1, 1, false), "records"),
        (batch(1, 0, 1, false), "first_seq"),
        (batch(1, 2, 1, false), "last_seq"),
        (batch(1, 1, 2, true), "last_seq"),
    ] {
        assert_eq!(FromAgent::try_from(message).map_err(refused), Err(("FrameBatch", field)));
    }
}

#[test]
fn covered_intervals_that_overlap_are_refused() {
    let window = |from_unix_nanos, until_unix_nanos| v1::Window { from_unix_nanos, until_unix_nanos };
    let row = |covered| v1::SourceCoverage {
        source: "cpu".to_owned(),
        kind: 1,
        asked: Some(window(0, 9)),
        covered,
        ..v1::SourceCoverage::default()
    };
    let convert = casefile_proto::coverage::SourceCoverage::try_from;
    assert!(convert(row(vec![window(0, 2), window(2, 3)])).is_ok());
    assert!(convert(row(vec![window(0, 3), window(2, 4)])).is_err());
    assert!(convert(row(vec![window(5, 6), window(2, 3)])).is_err());
}
