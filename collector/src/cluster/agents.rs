//! Which node the token of a service account is of: an agent in the cluster enrols with it.
//!
//! The node's name comes from what the API server says of the token, or of the pod that the token is of (clusters before 1.30),
//! and from nowhere else. Whoever may do this is decided anew each time; only that a token is none is remembered for a moment.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use casefile_proto::identity::MAX_FOREIGN_TOKEN;
use casefile_proto::ids::NodeName;
use casefile_proto::item::Digest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::ApiError;
use super::asking::{Asking, Question, Unknown, WITHIN};
use super::config::{Account, is_name};
use super::remembered::Remembered;
use super::review::{self, Reviewed, User};

/// How long a token that is none is not asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Tokens that are none, and are remembered.
const REFUSED: usize = 1_024;

/// The largest pod: etcd takes no larger object (`--max-request-bytes`), and JSON is larger.
const POD: usize = 4 << 20;

/// The longest id of a node, a pod or a token.
const ID: usize = 128;

/// What the API server knows of whoever holds a token (KEP-4193; `serviceaccount` in k8s.io/apiserver).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// What stands before the namespace and the name of a service account in the name of its user.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// A node, as the cluster vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub node: NodeName,
    /// The id of this node: another one of the same name has another. `None`: the cluster does not say.
    pub uid: Option<String>,
    account: Account,
    pod: String,
    credential: Option<String>,
}

impl fmt::Display for Claim {
    /// As it stands in the audit log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, pod, credential, .. } = self;
        write!(f, "service account {account}, pod {pod}")?;
        credential.as_ref().map_or(Ok(()), |id| write!(f, ", credential {id}"))
    }
}

/// Why a token is of no agent: for our log. Whoever showed it is not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAgent {
    /// It is longer than any that is one.
    #[error("longer than {MAX_FOREIGN_TOKEN} bytes")]
    TooLong,
    /// The API server does not take it, and says why.
    #[error("not taken by the cluster: {0}")]
    NotTaken(String),
    /// It is good, and of somebody else.
    #[error("of another user than an agent's service account")]
    OtherUser,
    /// It is of an agent's service account, and of none of its pods.
    #[error("bound to no pod: only kubelet's projected tokens are taken")]
    NoPod,
    /// The name of the node cannot be one.
    #[error("bound to a node whose name cannot be one")]
    NoNode,
    /// There is no such pod any more.
    #[error("of a pod that is not there")]
    PodGone,
    /// The pod is another one of the same name, is on no node, or of another service account.
    #[error("of a pod that is another one now")]
    OtherPod,
    /// A moment ago it was refused.
    #[error("refused a moment ago")]
    Again,
}

/// Why an agent is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotClaimed {
    /// Nobody can say now.
    Unknown(Unknown),
    /// It is none.
    NoAgent(NoAgent),
}

/// Says which node a token is of.
pub struct Agents {
    asking: Asking,
    audience: String,
    accounts: Vec<Account>,
    refused: Remembered<Digest, (), ()>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: PodMetadata,
    spec: PodSpec,
}

#[derive(Deserialize)]
struct PodMetadata {
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    service_account_name: String,
}

/// Where the name of the node comes from.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// The token says it.
    Node(Claim),
    /// Its pod says it.
    OfPod { account: Account, pod: String, uid: String, credential: Option<String> },
}

impl Agents {
    /// Of these service accounts, with tokens for this audience.
    pub(super) fn new(asking: Asking, audience: String, accounts: Vec<Account>) -> Self {
        Self { asking, audience, accounts, refused: Remembered::new(REFUSED) }
    }

    /// The node that a token is of, which somebody shows from there.
    pub async fn claim(&self, token: &str, from: IpAddr) -> Result<Claim, NotClaimed> {
        let no = |why| Err(NotClaimed::NoAgent(why));
        if token.len() > MAX_FOREIGN_TOKEN {
            return no(NoAgent::TooLong);
        }
        let digest = Digest(Sha256::digest(token).into());
        if self.refused.known(&digest, self.asking.now()).is_some() {
            self.asking.remembered(Question::Token);
            return no(NoAgent::Again);
        }
        let paid = self.asking.pay(from).map_err(NotClaimed::Unknown)?;
        let claimed = self.asking.ask(Question::Token, self.claimed(token)).await;
        match &claimed {
            // Whose token it is was not in doubt: he may come again.
            Ok(Ok(_)) | Err(_) => self.asking.pay_back(paid),
            Ok(Err(_)) => self.refused.remember(digest, (), self.asking.now(), REFUSED_FOR),
        }
        claimed.map_err(NotClaimed::Unknown)?.map_err(NotClaimed::NoAgent)
    }

    async fn claimed(&self, token: &str) -> Result<Result<Claim, NoAgent>, ApiError> {
        let api = &self.asking.api;
        let audiences = std::slice::from_ref(&self.audience);
        let user = match review::token(api, token, audiences, WITHIN).await? {
            Reviewed::Of(user) => user,
            Reviewed::NotTaken(why) => return Ok(Err(NoAgent::NotTaken(why))),
        };
        let (account, pod, uid, credential) = match whose(&user, &self.accounts) {
            Ok(Whose::OfPod { account, pod, uid, credential }) => (account, pod, uid, credential),
            Ok(Whose::Node(claim)) => return Ok(Ok(claim)),
            Err(why) => return Ok(Err(why)),
        };
        // Both are names of Kubernetes: nothing of them leads elsewhere.
        let path = format!("/api/v1/namespaces/{}/pods/{pod}", account.namespace());
        let answer = match api.get(&path, POD, WITHIN).await {
            Err(error) if error.is_not_found() => return Ok(Err(NoAgent::PodGone)),
            answer => answer?,
        };
        let found: Pod = serde_json::from_slice(&answer).map_err(|_| ApiError::Malformed("it is no pod".to_owned()))?;
        Ok(node_of(&found, &account, &uid).map(|node| Claim { node, uid: None, account, pod, credential }))
    }
}

/// Whose a token is, by what the API server says of its user.
fn whose(user: &User, accounts: &[Account]) -> Result<Whose, NoAgent> {
    let of = user.username.strip_prefix(SERVICE_ACCOUNT).and_then(|of| of.split_once(':'));
    let account = of.and_then(|(namespace, name)| Account::new(namespace, name)).ok_or(NoAgent::OtherUser)?;
    if !accounts.contains(&account) {
        return Err(NoAgent::OtherUser);
    }
    let (Some(pod), Some(pod_uid)) = (user.extra(POD_NAME), user.extra(POD_UID)) else { return Err(NoAgent::NoPod) };
    if !is_name(pod) || !is_id(pod_uid) {
        return Err(NoAgent::NoPod);
    }
    let pod = pod.to_owned();
    let credential = user.extra(CREDENTIAL).filter(|id| is_id(id)).map(str::to_owned);
    // One that is there and cannot be read is not the same as none: that would lead to the pod, which may be on another node.
    if !user.extra.contains_key(NODE_NAME) {
        return Ok(Whose::OfPod { account, pod, uid: pod_uid.to_owned(), credential });
    }
    let node = user.extra(NODE_NAME).and_then(|name| name.parse().ok()).ok_or(NoAgent::NoNode)?;
    let uid = user.extra(NODE_UID).filter(|id| is_id(id)).map(str::to_owned);
    Ok(Whose::Node(Claim { node, uid, account, pod, credential }))
}

fn node_of(pod: &Pod, account: &Account, uid: &str) -> Result<NodeName, NoAgent> {
    let same = pod.metadata.uid == uid && pod.spec.service_account_name == account.name();
    if same { pod.spec.node_name.parse().map_err(|_| NoAgent::OtherPod) } else { Err(NoAgent::OtherPod) }
}

/// What an id is made of: it stands in the audit log.
fn is_id(text: &str) -> bool {
    (1..=ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'=' | b'_'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn accounts() -> Vec<Account> {
        vec!["shop/agent".parse().unwrap()]
    }

    /// The user of the recorded answer, with something changed.
    fn user(change: impl FnOnce(&mut Value)) -> User {
        let text = include_str!("testdata/review/token_ok.json");
        let mut answer: Value = serde_json::from_str(text).unwrap();
        change(&mut answer["status"]["user"]);
        serde_json::from_value(answer["status"]["user"].take()).unwrap()
    }

    #[test]
    fn a_real_token_is_of_its_node_and_says_which_one() {
        let Ok(Whose::Node(claim)) = whose(&user(|_| {}), &accounts()) else { panic!("no node") };
        assert_eq!(
            (claim.node.as_str(), claim.uid.as_deref()),
            ("node1", Some("b3311f15-496c-4150-b630-9ece2370477e"))
        );
        assert_eq!(
            claim.to_string(),
            "service account shop/agent, pod probe-ddcvk, credential JTI=90792d22-1d5b-4fe5-8ea1-a9cf2659d662"
        );
    }

    #[test]
    fn who_is_not_exactly_an_agent_is_none() {
        let named = |name: &str| whose(&user(|user| user["username"] = json!(name)), &accounts());
        for other in [
            "system:serviceaccount:shop:agent2",
            "system:serviceaccount:shop2:agent",
            "system:serviceaccount:shop:agent:x",
            "system:serviceaccount:shop",
            "shop:agent",
            "system:node:node1",
            "system:serviceaccount:SHOP:agent",
        ] {
            assert_eq!(named(other), Err(NoAgent::OtherUser), "{other}");
        }
        let with = |key: &str, value: Value| whose(&user(|user| user["extra"][key] = value), &accounts());
        for (key, value, why) in [
            (POD_NAME, json!([]), NoAgent::NoPod),
            (POD_NAME, json!(["a", "b"]), NoAgent::NoPod),
            (POD_NAME, json!(["../secrets/x"]), NoAgent::NoPod),
            (POD_UID, json!([""]), NoAgent::NoPod),
            (NODE_NAME, json!([]), NoAgent::NoNode),
            (NODE_NAME, json!(["node1", "node2"]), NoAgent::NoNode),
            (NODE_NAME, json!(["../node2"]), NoAgent::NoNode),
        ] {
            assert_eq!(with(key, value.clone()), Err(why), "{key} {value}");
        }
        let Ok(Whose::Node(claim)) = with(CREDENTIAL, json!(["a b\n"])) else { panic!("no node") };
        assert_eq!(claim.credential, None, "what cannot stand in a log is left out");
    }

    #[test]
    fn on_an_older_cluster_the_pod_of_this_very_uid_says_which_node() {
        let old = user(|user| {
            user["extra"].as_object_mut().unwrap().retain(|key, _| key.contains("pod-"));
        });
        let Ok(Whose::OfPod { account, pod, uid, .. }) = whose(&old, &accounts()) else { panic!("no pod") };
        assert_eq!((pod.as_str(), uid.as_str()), ("probe-ddcvk", "2fcc4fec-06ca-460e-8f95-56abc8d60f4e"));
        let found = |spec: Value, of: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"uid": of}, "spec": spec})).unwrap()
        };
        let spec = json!({"nodeName": "node1", "serviceAccountName": "agent"});
        assert_eq!(node_of(&found(spec.clone(), &uid), &account, &uid).unwrap().as_str(), "node1");
        for (spec, of) in [
            (spec, "another"),
            (json!({"serviceAccountName": "agent"}), uid.as_str()),
            (json!({"nodeName": "node1", "serviceAccountName": "other"}), uid.as_str()),
            (json!({"nodeName": "a/b", "serviceAccountName": "agent"}), uid.as_str()),
        ] {
            assert_eq!(node_of(&found(spec.clone(), of), &account, &uid), Err(NoAgent::OtherPod), "{spec} {of}");
        }
    }
}
