//! Which tokens the API server knows and who may do what: `TokenReview` and `SubjectAccessReview`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// The audience of the API server itself: what a token is for that nobody made for anything else.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc";

/// A token.
#[derive(Debug, Clone)]
struct Token {
    user: Value,
    audiences: Vec<String>,
}

/// Tokens and rights.
#[derive(Debug, Default)]
pub struct Reviews {
    tokens: BTreeMap<String, Token>,
    rights: BTreeSet<(String, String, String)>,
}

impl Reviews {
    /// A token is of this user (`status.user` of a review), for these audiences; none: for the API server.
    pub fn token(&mut self, token: &str, user: Value, audiences: &[&str]) {
        let audiences = if audiences.is_empty() { &[API_AUDIENCE] } else { audiences };
        let audiences = audiences.iter().map(|a| (*a).to_owned()).collect();
        self.tokens.insert(token.to_owned(), Token { user, audiences });
    }

    /// A token as kubelet mounts it into a pod: of a service account (`namespace`, `account`), bound to pod and node.
    pub fn pod_token(
        &mut self,
        token: &str,
        account: (&str, &str),
        pod: &str,
        node: Option<(&str, &str)>,
        audience: &str,
    ) {
        let (namespace, name) = account;
        let mut extra = json!({
            "authentication.kubernetes.io/pod-name": [pod],
            "authentication.kubernetes.io/pod-uid": [format!("uid-of-{pod}")],
        });
        if let Some((node, uid)) = node {
            extra["authentication.kubernetes.io/node-name"] = json!([node]);
            extra["authentication.kubernetes.io/node-uid"] = json!([uid]);
        }
        let user = json!({
            "username": format!("system:serviceaccount:{namespace}:{name}"),
            "uid": format!("uid-of-{name}"),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "extra": extra,
        });
        self.token(token, user, &[audience]);
    }

    /// A token counts no more: it expired, or its pod was deleted.
    pub fn forget(&mut self, token: &str) {
        self.tokens.remove(token);
    }

    /// A user or group may do this with a resource of `casefile.dev`: `allow("kim", "create", "collections")`, with a
    /// subresource `archives/raw`.
    pub fn allow(&mut self, who: &str, verb: &str, resource: &str) {
        self.rights.insert((who.to_owned(), verb.to_owned(), resource.to_owned()));
    }

    /// A user or group may not any more.
    pub fn deny(&mut self, who: &str, verb: &str, resource: &str) {
        self.rights.remove(&(who.to_owned(), verb.to_owned(), resource.to_owned()));
    }

    pub(crate) fn review(&self, asked: &Value) -> Value {
        let token = asked["spec"]["token"].as_str().unwrap_or_default();
        let wanted: Vec<_> = asked["spec"]["audiences"].as_array().into_iter().flatten().collect();
        let mut review = asked.clone();
        let Some(known) = self.tokens.get(token) else {
            review["status"] = json!({"user": {}, "error": "invalid bearer token"});
            return review;
        };
        let wanted = if wanted.is_empty() {
            vec![API_AUDIENCE.to_owned()]
        } else {
            wanted.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect()
        };
        let both: Vec<_> = wanted.into_iter().filter(|a| known.audiences.contains(a)).collect();
        review["status"] = if both.is_empty() {
            json!({"user": {}, "error": format!("[invalid bearer token, token audiences {:?} is invalid for the target audiences]", known.audiences)})
        } else {
            json!({"authenticated": true, "user": known.user, "audiences": both})
        };
        review
    }

    pub(crate) fn access(&self, asked: &Value) -> Value {
        let mut review = asked.clone();
        let spec = &asked["spec"];
        let of = &spec["resourceAttributes"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut resource = text(&of["resource"]);
        if let Some(sub) = of["subresource"].as_str().filter(|sub| !sub.is_empty()) {
            resource = format!("{resource}/{sub}");
        }
        let groups = spec["groups"].as_array().into_iter().flatten().map(text);
        let mut who = groups.chain([text(&spec["user"])]);
        let allowed = of["group"] == "casefile.dev"
            && who.any(|who| self.rights.contains(&(who, text(&of["verb"]), resource.clone())));
        review["status"] = json!({"allowed": allowed});
        review
    }
}
