//! Tokens that are used up, old, another's, or made up; and requests for certificates that prove nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use casefile_collector::audit::Verb;
use casefile_identity::token::{Kind, Token};
use casefile_proto::identity::{Enrolled, Role, Subject};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::enrol_request::Credential;
use casefile_proto::wire::v1::identity_service_client::IdentityServiceClient;

use super::case::{Answer, Case, Variant, person};
use super::certificates::request;
use super::raw::{call, judged, whole};

/// What a viewer may do, and nobody without a token.
const NODES: &str = "/casefile.v1.NodeService/ListNodes";

const TTL: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(1);

pub(super) const ALL: &[Variant] = &[
    Variant {
        name: "a join token, the second time",
        tried: |c| {
            Box::pin(async move {
                let token = join(&c, TTL).await?;
                enrol(&c, &token, request(&[])?).await?.context("the first time must work")?;
                refused(&c, &token).await
            })
        },
    },
    Variant {
        name: "a join token that has expired",
        tried: |c| {
            Box::pin(async move {
                let token = join(&c, SHORT).await?;
                tokio::time::sleep(SHORT + SHORT / 2).await;
                refused(&c, &token).await
            })
        },
    },
    Variant {
        name: "a join token of another collector",
        tried: |c| Box::pin(async move { refused(&c, &Token::new(Kind::Join, c.site.other_pin)?.reveal()).await }),
    },
    Variant {
        name: "a join token that is made up",
        tried: |c| Box::pin(async move { refused(&c, &Token::new(Kind::Join, c.site.pin)?.reveal()).await }),
    },
    Variant { name: "an empty join token", tried: |c| Box::pin(async move { refused(&c, "").await }) },
    Variant {
        name: "a join token of 8 KiB",
        tried: |c| Box::pin(async move { refused(&c, &"casefile_join_".repeat(585)).await }),
    },
    Variant {
        name: "the owner's token as a join token",
        tried: |c| Box::pin(async move { refused(&c, &c.site.owner.reveal()).await }),
    },
    Variant {
        name: "the owner's secret called a join token",
        tried: |c| {
            Box::pin(
                async move { refused(&c, &c.site.owner.reveal().replace("casefile_api_", "casefile_join_")).await },
            )
        },
    },
    Variant {
        name: "a join token as a person's",
        tried: |c| {
            Box::pin(async move {
                let token = join(&c, TTL).await?;
                bearer(&c, &format!("Bearer {token}")).await
            })
        },
    },
    Variant {
        name: "a join token's secret called a person's",
        tried: |c| {
            Box::pin(async move {
                let token = join(&c, TTL).await?.replace("casefile_join_", "casefile_api_");
                bearer(&c, &format!("Bearer {token}")).await
            })
        },
    },
    Variant { name: "no certificate request", tried: |c| Box::pin(async move { unsigned(&c, Vec::new()).await }) },
    Variant {
        name: "noise as a certificate request",
        tried: |c| Box::pin(async move { unsigned(&c, vec![0x30; 4_000]).await }),
    },
    Variant {
        name: "a certificate request of 1 MiB",
        tried: |c| Box::pin(async move { unsigned(&c, vec![0x30; 1 << 20]).await }),
    },
    Variant {
        name: "a certificate request with a broken signature",
        tried: |c| {
            Box::pin(async move {
                let mut broken = request(&[])?;
                if let Some(last) = broken.last_mut() {
                    *last ^= 1;
                }
                unsigned(&c, broken).await
            })
        },
    },
    Variant {
        name: "a certificate request that names another node",
        tried: |c| {
            Box::pin(async move {
                let token = join(&c, TTL).await?;
                let other = format!("spiffe://casefile/node/{}", c.victim()?);
                let got = enrol(&c, &token, request(&[&other])?).await?.context("an enrolment")?;
                let holder =
                    got.certificates.first().and_then(|der| casefile_identity::authority::holder(&der.clone().into()));
                let holder = holder.context("a certificate")?;
                Ok(if got.node == c.node()? && holder.node == c.node()? {
                    Answer::refused("the certificate is of the token's node")
                } else {
                    Answer::accepted(format!("a certificate of {}", holder.node))
                })
            })
        },
    },
    Variant {
        name: "a renewal without a certificate",
        tried: |c| {
            Box::pin(async move {
                let ask = v1::EnrolRequest { certificate_request: request(&[])?, credential: None };
                Ok(judged(IdentityServiceClient::new(c.site.nobody().await?).enrol(ask).await))
            })
        },
    },
    Variant { name: "no token", tried: |c| Box::pin(async move { headers(&c, &[]).await }) },
    Variant {
        name: "the owner's token of another collector",
        tried: |c| {
            Box::pin(async move {
                let token = Token::new(Kind::Api, c.site.other_pin)?.reveal();
                bearer(&c, &format!("Bearer {token}")).await
            })
        },
    },
    Variant {
        name: "a person's token that is made up",
        tried: |c| {
            Box::pin(async move {
                let token = Token::new(Kind::Api, c.site.pin)?.reveal();
                bearer(&c, &format!("Bearer {token}")).await
            })
        },
    },
    Variant {
        name: "a token that was revoked",
        tried: |c| {
            Box::pin(async move {
                let made = c.site.token(person("gone", Role::Admin)?, TTL).await?;
                let mut owner = IdentityServiceClient::new(c.site.as_owner().await?);
                owner.revoke_token(v1::RevokeTokenRequest::from(made.kept.id)).await?;
                bearer(&c, &format!("Bearer {}", made.token)).await
            })
        },
    },
    Variant {
        name: "a token that has expired, on the connection on which it was good",
        tried: |c| {
            Box::pin(async move {
                let made = c.site.token(person("brief", Role::Viewer)?, 2 * SHORT).await?;
                let channel = c.site.nobody().await?;
                let shown = format!("Bearer {}", made.token);
                let shown = [("authorization", shown.as_str())];
                if let Answer::Refused(how) = call(&channel, NODES, &shown, whole(vec![0; 5])).await? {
                    anyhow::bail!("a good token was refused: {how}");
                }
                tokio::time::sleep(2 * SHORT + SHORT / 2).await;
                call(&channel, NODES, &shown, whole(vec![0; 5])).await
            })
        },
    },
    Variant {
        name: "the id of a token instead of the token",
        tried: |c| {
            Box::pin(async move {
                let made = c.site.token(person("known", Role::Viewer)?, TTL).await?;
                bearer(&c, &format!("Bearer {}", made.kept.id)).await
            })
        },
    },
    Variant {
        name: "the digest of a secret instead of the secret",
        tried: |c| {
            Box::pin(async move {
                bearer(&c, &format!("Bearer casefile_api_{}_{}", c.site.pin, c.site.owner.digest())).await
            })
        },
    },
    Variant {
        name: "a good token in another scheme",
        tried: |c| Box::pin(async move { bearer(&c, &format!("Basic {}", c.site.owner.reveal())).await }),
    },
    Variant {
        name: "a good token without a scheme",
        tried: |c| Box::pin(async move { bearer(&c, &c.site.owner.reveal()).await }),
    },
    Variant {
        name: "a good token in another header",
        tried: |c| {
            Box::pin(
                async move { headers(&c, &[("x-casefile-token", &format!("Bearer {}", c.site.owner.reveal()))]).await },
            )
        },
    },
    Variant {
        name: "a good token with its case changed",
        tried: |c| {
            Box::pin(async move { bearer(&c, &format!("Bearer {}", c.site.owner.reveal().to_uppercase())).await })
        },
    },
    Variant {
        name: "a bad token in front of a good one",
        tried: |c| {
            Box::pin(async move {
                let bad = format!("Bearer {}", Token::new(Kind::Api, c.site.pin)?.reveal());
                let good = format!("Bearer {}", c.site.owner.reveal());
                headers(&c, &[("authorization", &bad), ("authorization", &good)]).await
            })
        },
    },
    Variant {
        name: "the owner's token over an agent's connection",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                c.audited(format!("node {node}"), Verb::Call);
                let shown = format!("Bearer {}", c.site.owner.reveal());
                call(&c.site.agent(&node).await?, NODES, &[("authorization", &shown)], whole(vec![0; 5])).await
            })
        },
    },
];

/// A join token of the attacker's own node.
async fn join(case: &Case, ttl: Duration) -> Result<String> {
    Ok(case.site.token(Subject::Node(case.node()?), ttl).await?.token)
}

/// An enrolment. `Ok(None)`: it was refused.
async fn enrol(case: &Case, token: &str, request: Vec<u8>) -> Result<Option<Enrolled>> {
    let ask =
        v1::EnrolRequest { credential: Some(Credential::JoinToken(token.to_owned())), certificate_request: request };
    let answer = IdentityServiceClient::new(case.site.nobody().await?).enrol(ask).await;
    answer.ok().map(|enrolled| Ok(Enrolled::try_from(enrolled.into_inner())?)).transpose()
}

/// An enrolment with this token must be refused, and the audit log must have it.
async fn refused(case: &Case, token: &str) -> Result<Answer> {
    case.audited("nobody", Verb::Enrol);
    let ask = v1::EnrolRequest {
        credential: Some(Credential::JoinToken(token.to_owned())),
        certificate_request: request(&[])?,
    };
    Ok(judged(IdentityServiceClient::new(case.site.nobody().await?).enrol(ask).await))
}

/// An enrolment with a good token and this request must be refused, and must not use the token up.
async fn unsigned(case: &Case, broken: Vec<u8>) -> Result<Answer> {
    let token = join(case, TTL).await?;
    let ask = v1::EnrolRequest { credential: Some(Credential::JoinToken(token.clone())), certificate_request: broken };
    let answer = judged(IdentityServiceClient::new(case.site.nobody().await?).enrol(ask).await);
    enrol(case, &token, request(&[])?).await?.context("the token was used up by a request that was refused")?;
    Ok(answer)
}

/// Lists the nodes with this in the header for credentials.
async fn bearer(case: &Case, value: &str) -> Result<Answer> {
    headers(case, &[("authorization", value)]).await
}

async fn headers(case: &Case, headers: &[(&str, &str)]) -> Result<Answer> {
    case.audited("nobody", Verb::Call);
    call(&case.site.nobody().await?, NODES, headers, whole(vec![0; 5])).await
}
