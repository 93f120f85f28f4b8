//! The two questions that an API server is asked about somebody, and what it answers: `TokenReview` (whose token is this, and
//! is it for us?) and `SubjectAccessReview` (may this one do that?).
//!
//! Reading is pure. An answer that is not plainly yes is no; one that is no answer at all is neither, and nothing is allowed then.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tonic::codegen::http::Method;

use super::{Api, ApiError};
use crate::identity::rights::Right;

/// The group of the resources that rights are about: there need be no such API.
pub(super) const GROUP: &str = "casefile.dev";

/// The largest answer: the token itself comes back in it, and a user may be in hundreds of groups.
const ANSWER: usize = 128 << 10;

/// The longest that is kept of what the API server said against a token.
const SAID: usize = 256;

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// A user as the API server knows him (`UserInfo`). Every text of it is the cluster's, so none of it is shown as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) username: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The one value that is known of him under this name; `None`: there is none, or more than one.
    pub(super) fn extra(&self, name: &str) -> Option<&str> {
        match self.extra.get(name).map(Vec::as_slice) {
            Some([one]) => Some(one),
            _ => None,
        }
    }
}

/// What an API server says of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reviewed {
    /// It is this one's, and for us.
    Of(Box<User>),
    /// It is nobody's, counts no more, or is for somebody else: why, in words for our log.
    NotTaken(String),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: Map<String, Value>,
    audiences: Vec<String>,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
    denied: bool,
}

/// Asks whose token this is, among those for these audiences; none: those for the API server itself.
pub(super) async fn token(
    api: &Api,
    token: &str,
    audiences: &[String],
    within: Duration,
) -> Result<Reviewed, ApiError> {
    let asked = json!({
        "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
        "spec": {"token": token, "audiences": audiences},
    });
    let answer = api.send_json(Method::POST, TOKEN_REVIEWS, &asked, ANSWER, within).await;
    read_token(&answer.map_err(|error| without(error, token))?, audiences)
}

/// Asks whether this user may do that, to whatever there is in this namespace.
pub(super) async fn access(
    api: &Api,
    user: &User,
    right: Right,
    namespace: &str,
    within: Duration,
) -> Result<bool, ApiError> {
    let asked = access_asked(user, right, namespace);
    read_access(&api.send_json(Method::POST, ACCESS_REVIEWS, &asked, ANSWER, within).await?)
}

fn access_asked(user: &User, right: Right, namespace: &str) -> Value {
    json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {
            "user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra,
            "resourceAttributes": {
                "group": GROUP, "resource": right.resource(), "verb": right.verb(), "namespace": namespace,
            },
        },
    })
}

/// The same error without the token: whoever answered may have repeated what he was sent.
fn without(error: ApiError, token: &str) -> ApiError {
    match error {
        ApiError::Said { code, reason, message, retry_after } if token.len() >= 8 || message.contains(token) => {
            ApiError::Said { code, reason, message: message.replace(token, "…"), retry_after }
        }
        other => other,
    }
}

fn status<S: for<'de> Deserialize<'de>>(answer: &[u8], kind: &str) -> Result<S, ApiError> {
    // What serde says may quote the answer, and in it stands the token.
    let wrong = || ApiError::Malformed(format!("it is no {kind} with a status"));
    // An object each time: serde would take an array for a structure as well, field by field.
    let mut answer: Map<String, Value> = serde_json::from_slice(answer).map_err(|_| wrong())?;
    let status = answer.remove("status");
    match (answer.get("kind").and_then(Value::as_str), status) {
        (Some(said), Some(Value::Object(status))) if said == kind => of(status).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn of<T: for<'de> Deserialize<'de>>(object: Map<String, Value>) -> Option<T> {
    serde_json::from_value(Value::Object(object)).ok()
}

fn read_token(answer: &[u8], audiences: &[String]) -> Result<Reviewed, ApiError> {
    let status: TokenStatus = status(answer, "TokenReview")?;
    let not_taken = |why: &str| Ok(Reviewed::NotTaken(why.to_owned()));
    if !status.authenticated || !status.error.is_empty() {
        let said: String = status.error.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(SAID).collect();
        return not_taken(if said.is_empty() { "not authenticated" } else { &said });
    }
    // A server that does not know audiences says yes to a token for anybody else (TokenReviewStatus).
    if !audiences.is_empty() && !status.audiences.iter().any(|audience| audiences.contains(audience)) {
        return not_taken("authenticated, and not for our audience");
    }
    match of::<User>(status.user) {
        None => Err(ApiError::Malformed("the user of a TokenReview is none".to_owned())),
        Some(user) if user.username.is_empty() => not_taken("authenticated, and of nobody"),
        Some(user) => Ok(Reviewed::Of(Box::new(user))),
    }
}

fn read_access(answer: &[u8]) -> Result<bool, ApiError> {
    let status: AccessStatus = status(answer, "SubjectAccessReview")?;
    Ok(status.allowed && !status.denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Vec<String> {
        vec!["casefile-collector".to_owned()]
    }

    fn read(answer: &str) -> Result<Reviewed, ApiError> {
        read_token(answer.as_bytes(), &ours())
    }

    #[test]
    fn a_token_of_a_pod_says_its_node_and_pod() {
        let Ok(Reviewed::Of(user)) = read(include_str!("testdata/review/token_ok.json")) else { panic!("not taken") };
        assert_eq!(user.username, "system:serviceaccount:shop:agent");
        assert_eq!(user.extra("authentication.kubernetes.io/node-name"), Some("node1"));
        assert_eq!(user.extra("authentication.kubernetes.io/nothing"), None);
        assert_eq!(user.groups.len(), 3);
    }

    #[test]
    fn what_a_real_server_does_not_take_is_not_taken_and_its_reason_is_kept() {
        for (answer, why) in [
            (include_str!("testdata/review/token_garbage.json"), "invalid bearer token"),
            (include_str!("testdata/review/token_pod_deleted.json"), "service account token has been invalidated"),
            (include_str!("testdata/review/token_wrong_audience.json"), "is invalid for the target audiences"),
        ] {
            let Ok(Reviewed::NotTaken(said)) = read(answer) else { panic!("{answer}") };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn an_answer_that_is_not_plainly_yes_is_no_and_one_that_is_none_is_an_error() {
        let with = |status: Value| read(&json!({"kind": "TokenReview", "status": status}).to_string());
        let user = json!({"username": "system:serviceaccount:casefile:casefile-agent"});
        let yes = json!({"authenticated": true, "user": user, "audiences": ours()});
        assert!(matches!(with(yes.clone()), Ok(Reviewed::Of(_))));
        for (key, value) in [
            ("authenticated", json!(false)),
            ("audiences", json!([])),
            ("audiences", json!(["https://kubernetes.default.svc"])),
            ("user", json!({})),
            ("error", json!("cannot tell")),
        ] {
            let mut no = yes.clone();
            no[key] = value;
            assert!(matches!(with(no.clone()), Ok(Reviewed::NotTaken(_))), "{no}");
        }
        let mut none = yes;
        none["authenticated"] = json!("true");
        for answer in [
            String::new(),
            "<html>".to_owned(),
            json!({"kind": "TokenReview"}).to_string(),
            json!({"kind": "TokenReview", "status": null}).to_string(),
            json!({"kind": "Status", "status": "Success"}).to_string(),
            json!({"kind": "SubjectAccessReview", "status": {"authenticated": true}}).to_string(),
            json!({"kind": "TokenReview", "status": none}).to_string(),
            json!({"kind": "TokenReview", "status": [true, {"username": "u"}, ours()]}).to_string(),
            json!(["TokenReview", {"authenticated": true, "user": {"username": "u"}, "audiences": ours()}]).to_string(),
        ] {
            assert!(matches!(read(&answer), Err(ApiError::Malformed(_))), "{answer}");
        }
    }

    #[test]
    fn access_is_asked_for_one_right_and_only_allowed_is_allowed() {
        assert!(read_access(include_bytes!("testdata/review/access_allowed.json")).unwrap());
        assert!(!read_access(include_bytes!("testdata/review/access_denied.json")).unwrap());
        let both = json!({"kind": "SubjectAccessReview", "status": {"allowed": true, "denied": true}}).to_string();
        assert!(!read_access(both.as_bytes()).unwrap(), "denied outweighs");
        assert!(read_access(b"{\"kind\":\"TokenReview\",\"status\":{\"allowed\":true}}").is_err());
        let user = User { username: "kim".to_owned(), groups: vec!["sre".to_owned()], ..User::default() };
        let asked = access_asked(&user, Right::Collect, "casefile");
        let of = &asked["spec"]["resourceAttributes"];
        assert_eq!(*of, json!({"group": GROUP, "resource": "collections", "verb": "create", "namespace": "casefile"}));
        assert_eq!((&asked["spec"]["user"], &asked["spec"]["groups"]), (&json!("kim"), &json!(["sre"])));
    }

    #[test]
    fn an_error_does_not_repeat_the_token() {
        let said = |message: &str| ApiError::Said {
            code: 500,
            reason: String::new(),
            message: message.to_owned(),
            retry_after: None,
        };
        let error = without(said("what is eyJhbGciOiJS?"), "eyJhbGciOiJS");
        assert!(!error.to_string().contains("eyJ"), "{error}");
    }
}
