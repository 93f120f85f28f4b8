//! What a status says of an incident, at each point of its way.

use casefile_proto::item::Digest;
use serde_json::{Value, json};

use super::*;

fn collection(generation: u64, status: Value) -> Collection {
    let metadata = json!({"name": "slow", "namespace": "shop", "uid": "u-1", "resourceVersion": "7",
        "generation": generation, "creationTimestamp": "2026-11-23T03:14:00Z"});
    Collection::read(json!({"metadata": metadata, "spec": {"window": {"since": "30m"}}, "status": status})).unwrap()
}

fn seen(state: IncidentState) -> Seen {
    let at = |text: &str| text.parse().unwrap();
    Seen {
        incident: IncidentId(7),
        followed: 1,
        state,
        window: Window::new(at("2026-11-23T02:44:00Z"), at("2026-11-23T03:14:00Z")).unwrap(),
        expected: 3,
        answered: 2,
        missing: vec!["n3".parse().unwrap()],
        archive: None,
        findings: None,
        failure: None,
    }
}

fn sealed(whole: bool) -> Seen {
    let archive = SealedArchive {
        file_name: "INC-000007.tar.gz".to_owned(),
        size: 9,
        sha256: Digest([0xab; 32]),
        sealed_at: WallTime::from_secs(0),
        whole,
        revision: 2,
        kept: None,
    };
    Seen { archive: Some(archive), ..seen(IncidentState::Sealed) }
}

fn status(collection: &Collection, known: &Known) -> Value {
    let Decision::Say(status) = decide(collection, known) else { panic!("nothing is said of {known:?}") };
    let mut patched = status.patch(&Value::Null, WallTime::from_secs(0)).unwrap();
    for condition in patched["conditions"].as_array_mut().unwrap() {
        condition.as_object_mut().unwrap().remove("lastTransitionTime");
    }
    patched
}

/// Status, reason and message of the condition that it succeeded.
fn succeeded(seen: Seen) -> [String; 3] {
    let status = status(&collection(1, Value::Null), &Known::Incident(Box::new(seen)));
    let condition = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == SUCCEEDED).unwrap().clone();
    ["status", "reason", "message"].map(|field| condition[field].as_str().unwrap().to_owned())
}

#[test]
fn each_point_of_the_way_has_its_word() {
    use IncidentState::{Amending, Failed, Gathering, Open, Sealed, Sealing};
    assert_eq!(succeeded(seen(Open)), ["Unknown", "Waiting", "the window ends at 2026-11-23T03:14:00Z"]);
    assert_eq!(succeeded(seen(Gathering)), ["Unknown", "Gathering", "2/3 nodes"]);
    assert_eq!(succeeded(seen(Sealing)), ["Unknown", "Sealing", "2/3 nodes"]);
    let failed = Seen { failure: Some("disk full".to_owned()), ..seen(Failed) };
    assert_eq!(
        succeeded(failed),
        ["False", "Failed", "it could not be sealed, is kept, and is tried again: disk full"]
    );
    assert_eq!(succeeded(sealed(false)), ["True", "PartialCoverage", "2/3 nodes; not or not wholly: n3"]);
    assert_eq!(succeeded(sealed(true)), ["True", "Sealed", "2/3 nodes"]);
    let parts = Seen { missing: vec![], answered: 3, ..sealed(false) };
    assert_eq!(succeeded(parts)[2], "3/3 nodes; parts are missing: the coverage in the case file says which");
    for later in [Amending, Sealing, Failed, Sealed] {
        let amended = Seen { state: later, ..sealed(false) };
        assert_eq!(succeeded(amended)[..2], ["True", "PartialCoverage"], "an archive that lies there stays: {later:?}");
    }
}

#[test]
fn the_archive_is_told_to_the_digit() {
    let counts = Counts { fatal: 1, error: 2, warning: 3, info: 4 };
    let seen = Seen { findings: Some(counts), ..sealed(false) };
    let status = status(&collection(1, Value::Null), &Known::Incident(Box::new(seen)));
    let archive = json!({"fileName": "INC-000007.tar.gz", "bytes": 9, "sha256": "ab".repeat(32), "revision": 2,
        "sealedAt": "1970-01-01T00:00:00Z"});
    assert_eq!(status["archive"], archive);
    assert_eq!(status["findings"], json!({"fatal": 1, "error": 2, "warning": 3, "info": 4}));
    assert_eq!(status["nodes"], json!({"expected": 3, "answered": 2, "summary": "2/3"}));
    let window = json!({"from": "2026-11-23T02:44:00Z", "until": "2026-11-23T03:14:00Z", "summary": "02:44Z+30m"});
    assert_eq!((&status["window"], &status["incident"]), (&window, &json!("INC-000007")));
    assert_eq!(status["observedGeneration"], 1);
}

#[test]
fn a_specification_that_was_changed_all_the_same_is_not_followed_and_never_said_to_have_succeeded() {
    let status = status(&collection(2, Value::Null), &Known::Incident(Box::new(sealed(true))));
    let conditions = status["conditions"].as_array().unwrap();
    let of: Vec<_> =
        conditions.iter().map(|c| (c["type"].as_str().unwrap(), c["observedGeneration"].as_u64().unwrap())).collect();
    // `kubectl wait` does not take a condition of an older generation for one of this one.
    assert_eq!(of, [(ACCEPTED, 1), (SUCCEEDED, 1), (FOLLOWED, 2)]);
    assert_eq!((&conditions[2]["status"], &conditions[2]["reason"]), (&json!("False"), &json!("SpecChanged")));
    assert_eq!(status["observedGeneration"], 2);
}

#[test]
fn what_nothing_answers_for_is_opened_unless_its_status_had_the_last_word() {
    assert!(matches!(decide(&collection(1, Value::Null), &Known::Nothing), Decision::Open(_)));
    let ended = |generation| json!({"conditions": [{"type": SUCCEEDED, "status": "False", "reason": "Refused", "observedGeneration": generation}]});
    assert_eq!(decide(&collection(1, ended(1)), &Known::Nothing), Decision::Leave);
    assert!(matches!(decide(&collection(2, ended(1)), &Known::Nothing), Decision::Open(_)), "it was edited since");
    let going = json!({"conditions": [{"type": SUCCEEDED, "status": "Unknown", "observedGeneration": 1}]});
    assert!(matches!(decide(&collection(1, going), &Known::Nothing), Decision::Open(_)), "nobody opened it yet");
}

#[test]
fn an_incident_that_the_index_lost_is_said_to_be_lost_and_none_is_opened_in_its_place() {
    let lost = status(&collection(1, json!({"incident": "INC-000003"})), &Known::Nothing);
    assert_eq!(lost["conditions"][1]["reason"], "Lost");
    assert_eq!(lost["incident"], "INC-000003");
    assert_eq!(decide(&collection(1, lost), &Known::Nothing), Decision::Leave);
}

#[test]
fn a_refusal_for_now_is_waiting_and_one_for_good_is_no() {
    let refused = |again| {
        let status = status(&collection(1, Value::Null), &Known::Refused { why: "w".to_owned(), again });
        let words = |n: usize| status["conditions"][n]["status"].as_str().unwrap().to_owned();
        [words(0), words(1), status["conditions"][1]["reason"].as_str().unwrap().to_owned()]
    };
    assert_eq!(refused(true), ["Unknown", "Unknown", "Waiting"]);
    assert_eq!(refused(false), ["False", "False", "Refused"]);
}

#[test]
fn a_window_is_short_enough_for_a_column() {
    let shown = |from: &str, until: &str| short(Window::new(from.parse().unwrap(), until.parse().unwrap()).unwrap());
    assert_eq!(shown("2026-11-23T02:44:10Z", "2026-11-23T02:46:10Z"), "02:44Z+2m");
    assert_eq!(shown("2026-11-23T02:44:00Z", "2026-11-23T02:45:30Z"), "02:44Z+90s");
    assert_eq!(shown("2026-11-23T02:00:00Z", "2026-11-25T02:00:00Z"), "02:00Z+2d");
    assert_eq!(shown("2026-11-23T02:00:00Z", "2026-11-23T02:00:00.5Z"), "02:00Z+500ms");
}

#[test]
fn how_far_a_resource_is_follows_from_its_incident_and_without_one_from_what_was_made_of_it() {
    let fresh = collection(1, Value::Null);
    let refused = |again| Known::Refused { why: String::new(), again };
    for (known, far) in [
        (Known::Nothing, Phase::New),
        (refused(true), Phase::Waiting),
        (refused(false), Phase::Refused),
        (Known::Incident(Box::new(seen(IncidentState::Gathering))), Phase::Gathering),
        (Known::Incident(Box::new(seen(IncidentState::Failed))), Phase::Gathering),
        (Known::Incident(Box::new(sealed(true))), Phase::Sealed),
        (Known::Incident(Box::new(Seen { state: IncidentState::Amending, ..sealed(false) })), Phase::Sealed),
    ] {
        assert_eq!(phase(&fresh, &known), far, "{known:?}");
    }
    let over = |status: &str, generation: u64| {
        let condition = json!({"type": "Succeeded", "status": status, "observedGeneration": generation});
        phase(&collection(2, json!({"conditions": [condition]})), &Known::Nothing)
    };
    assert_eq!((over("True", 2), over("False", 2), over("Unknown", 2)), (Phase::Sealed, Phase::Refused, Phase::New));
    assert_eq!(over("True", 1), Phase::New, "of the specification before");
}
