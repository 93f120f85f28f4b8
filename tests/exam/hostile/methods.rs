//! Every method, called by everybody who may not; and paths that are no method.

use anyhow::{Context, Result};
use casefile_collector::audit::Verb;
use casefile_proto::ids::NodeName;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_client::IdentityServiceClient;
use tonic::codegen::http::Request;
use tonic::transport::Channel;

use super::case::{Answer, Case, Variant};
use super::certificates::request;
use super::raw::{call, judged, send, whole};

/// A caller, and the methods that are not his, below `/casefile.v1.`.
const PEOPLES: &[&str] = &[
    "IdentityService/CreateToken",
    "IdentityService/ListTokens",
    "IdentityService/RevokeToken",
    "IdentityService/RevokeNode",
    "IncidentService/OpenIncident",
    "IncidentService/GetIncident",
    "IncidentService/ListIncidents",
    "IncidentService/WatchIncident",
    "IncidentService/DownloadArchive",
    "NodeService/ListNodes",
];
const AGENTS: &[&str] = &["AgentService/Session", "AgentService/Upload"];
const TOKENS: &[&str] = &[
    "IdentityService/CreateToken",
    "IdentityService/ListTokens",
    "IdentityService/RevokeToken",
    "IdentityService/RevokeNode",
];

pub(super) const ALL: &[Variant] = &[
    Variant {
        name: "an agent calls the methods of people",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                c.audited(format!("node {node}"), Verb::Call);
                each(&c.site.agent(&node).await?, &[], PEOPLES).await
            })
        },
    },
    Variant {
        name: "an agent whose certificate was revoked, on the connection on which it was good",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                let channel = c.site.agent(&node).await?;
                revoke(&c, &node).await?;
                c.audited(format!("node {node}"), Verb::Call);
                each(&channel, &[], AGENTS).await
            })
        },
    },
    Variant {
        name: "an agent whose certificate was revoked, on another connection",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                let stolen = c.site.certificate(&node)?;
                revoke(&c, &node).await?;
                c.audited(format!("node {node}"), Verb::Call);
                each(&c.site.showing(stolen).await?, &[], AGENTS).await
            })
        },
    },
    Variant {
        name: "a certificate that was revoked renews itself",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                let channel = c.site.agent(&node).await?;
                revoke(&c, &node).await?;
                let ask = v1::EnrolRequest { certificate_request: request(&[])?, credential: None };
                Ok(judged(IdentityServiceClient::new(channel).enrol(ask).await))
            })
        },
    },
    Variant {
        name: "nobody calls the methods of people",
        tried: |c| Box::pin(async move { each(&c.site.nobody().await?, &[], PEOPLES).await }),
    },
    Variant {
        name: "nobody calls the methods of agents",
        tried: |c| Box::pin(async move { each(&c.site.nobody().await?, &[], AGENTS).await }),
    },
    Variant { name: "a viewer gives tokens", tried: |c| Box::pin(async move { role(&c, "viewer", TOKENS).await }) },
    Variant {
        name: "a viewer opens an incident",
        tried: |c| Box::pin(async move { role(&c, "viewer", &["IncidentService/OpenIncident"]).await }),
    },
    Variant {
        name: "a viewer fetches an archive",
        tried: |c| Box::pin(async move { role(&c, "viewer", &["IncidentService/DownloadArchive"]).await }),
    },
    Variant { name: "a viewer plays an agent", tried: |c| Box::pin(async move { role(&c, "viewer", AGENTS).await }) },
    Variant {
        name: "a requester gives tokens",
        tried: |c| Box::pin(async move { role(&c, "requester", TOKENS).await }),
    },
    Variant {
        name: "a requester fetches an archive",
        tried: |c| Box::pin(async move { role(&c, "requester", &["IncidentService/DownloadArchive"]).await }),
    },
    Variant {
        name: "a requester plays an agent",
        tried: |c| Box::pin(async move { role(&c, "requester", AGENTS).await }),
    },
    Variant {
        name: "an exporter gives tokens",
        tried: |c| Box::pin(async move { role(&c, "exporter", TOKENS).await }),
    },
    Variant {
        name: "an exporter opens an incident",
        tried: |c| Box::pin(async move { role(&c, "exporter", &["IncidentService/OpenIncident"]).await }),
    },
    Variant {
        name: "an exporter plays an agent",
        tried: |c| Box::pin(async move { role(&c, "exporter", AGENTS).await }),
    },
    Variant { name: "an admin plays an agent", tried: |c| Box::pin(async move { role(&c, "admin", AGENTS).await }) },
    Variant {
        name: "methods that there are not",
        tried: |c| {
            Box::pin(async move {
                role(
                    &c,
                    "admin",
                    &["IncidentService/DeleteIncident", "AdminService/Shell", "IncidentService/", "IncidentService"],
                )
                .await
            })
        },
    },
    Variant {
        name: "paths in other letters, doubled, and with dots",
        tried: |c| {
            Box::pin(async move {
                paths(
                    &c,
                    &[
                        "/casefile.v1.nodeservice/listnodes",
                        "//casefile.v1.NodeService/ListNodes",
                        "/casefile.v1.NodeService//ListNodes",
                        "/casefile.v1.NodeService/ListNodes/",
                        "/casefile.v1.NodeService/x/../ListNodes",
                        "/casefile.v1.NodeService/%4cistNodes",
                        "/casefile.v2.NodeService/ListNodes",
                    ],
                )
                .await
            })
        },
    },
    Variant {
        name: "paths of other servers",
        tried: |c| {
            Box::pin(async move {
                paths(
                    &c,
                    &[
                        "/",
                        "/index.html",
                        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                        "/debug/pprof/heap",
                        "/api/v1/pods",
                        "/.git/config",
                    ],
                )
                .await
            })
        },
    },
    Variant {
        name: "a path of 60 KiB",
        tried: |c| Box::pin(async move { paths(&c, &[format!("/{}", "a".repeat(60 << 10)).as_str()]).await }),
    },
    Variant {
        name: "headers of 60 KiB",
        tried: |c| {
            Box::pin(async move {
                let (long, shown) = ("a".repeat(60 << 10), admin(&c)?);
                let headers = [("authorization", shown.as_str()), ("x-long", long.as_str())];
                call(&c.site.nobody().await?, "/casefile.v1.NodeService/ListNodes", &headers, whole(vec![0; 5])).await
            })
        },
    },
    Variant {
        name: "GET instead of POST",
        tried: |c| Box::pin(async move { verb(&c, "GET", "application/grpc").await }),
    },
    Variant {
        name: "another content type",
        tried: |c| Box::pin(async move { verb(&c, "POST", "application/json").await }),
    },
];

async fn revoke(case: &Case, node: &NodeName) -> Result<()> {
    let mut owner = IdentityServiceClient::new(case.site.as_owner().await?);
    owner.revoke_node(v1::RevokeNodeRequest::from(node.clone())).await?;
    Ok(())
}

async fn role(case: &Case, role: &'static str, methods: &[&str]) -> Result<Answer> {
    case.audited(role, Verb::Call);
    let token = case.site.people.get(role).context("a token of that role")?;
    each(&case.site.nobody().await?, &[("authorization", &format!("Bearer {token}"))], methods).await
}

async fn each(channel: &Channel, headers: &[(&str, &str)], methods: &[&str]) -> Result<Answer> {
    let mut how = Vec::new();
    for method in methods {
        match call(channel, &format!("/casefile.v1.{method}"), headers, whole(vec![0; 5])).await? {
            Answer::Refused(said) => how.push(said),
            Answer::Accepted(said) => return Ok(Answer::accepted(format!("{method}: {said}"))),
        }
    }
    how.dedup();
    Ok(Answer::refused(how.join(", ")))
}

async fn paths(case: &Case, paths: &[&str]) -> Result<Answer> {
    let (shown, mut how) = (admin(case)?, Vec::new());
    for path in paths {
        // A connection for each: some end it.
        let channel = case.site.nobody().await?;
        match call(&channel, path, &[("authorization", &shown)], whole(vec![0; 5])).await? {
            Answer::Refused(said) => how.push(said),
            Answer::Accepted(said) => {
                return Ok(Answer::accepted(format!("{}: {said}", path.get(..80).unwrap_or(path))));
            }
        }
    }
    how.dedup();
    Ok(Answer::refused(how.join(", ")))
}

async fn verb(case: &Case, verb: &str, content: &str) -> Result<Answer> {
    let request = Request::builder()
        .method(verb)
        .uri("http://casefile/casefile.v1.NodeService/ListNodes")
        .header("content-type", content)
        .header("te", "trailers")
        .header("authorization", admin(case)?)
        .body(whole(vec![0; 5]))?;
    send(&case.site.nobody().await?, request).await
}

fn admin(case: &Case) -> Result<String> {
    Ok(format!("Bearer {}", case.site.people.get("admin").context("a token of an admin")?))
}
