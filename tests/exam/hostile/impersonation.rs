//! An agent that says that it is another one, with what it says, with what it has stolen, or by being there twice.

use anyhow::{Context, Result};
use casefile_collector::audit::Verb;
use casefile_proto::ids::{BootId, NodeName, RequestId};
use casefile_proto::session::{CollectionDone, CollectionProgress, FromAgent, SessionToken};
use casefile_proto::units::Bytes;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use casefile_proto::wire::v1::session_request::Message;

use super::case::{Answer, Case, Variant};
use super::raw::judged;
use super::speaker::{Speaker, boot, hello, message, raw_hello};
use super::uploads::{begin, collected, upload};

pub(super) const ALL: &[Variant] = &[
    Variant {
        name: "hello as another node",
        tried: |c| {
            Box::pin(async move {
                let (node, victim) = (c.node()?, c.victim()?);
                let (mut them, _) = Speaker::stand(&c.site, &victim, boot(1)).await?;
                them.frames(2).await?;
                c.audited(format!("node {node}"), Verb::ClaimNode);
                let mut me = Speaker::open(&c.site, &node, boot(2)).await?;
                me.say(FromAgent::Hello(hello(&victim, boot(2))).into()).await;
                let answer = me.ended().await?;
                // The victim's own session goes on.
                them.frames(2).await?;
                Ok(answer)
            })
        },
    },
    Variant {
        name: "hello as another node, in its own boot",
        tried: |c| {
            Box::pin(async move {
                let (node, victim) = (c.node()?, c.victim()?);
                let (mut them, _) = Speaker::stand(&c.site, &victim, boot(1)).await?;
                c.audited(format!("node {node}"), Verb::ClaimNode);
                let mut me = Speaker::open(&c.site, &node, boot(1)).await?;
                me.say(FromAgent::Hello(hello(&victim, boot(1))).into()).await;
                let answer = me.ended().await?;
                them.frames(2).await?;
                Ok(answer)
            })
        },
    },
    Variant {
        name: "the recording header of another node",
        tried: |c| {
            Box::pin(async move {
                let victim = c.victim()?;
                changed(&c, |hello| hello.recording_header = raw_hello(&victim, boot(2)).recording_header).await
            })
        },
    },
    Variant {
        name: "the recording header of another boot",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                changed(&c, |hello| hello.recording_header = raw_hello(&node, boot(3)).recording_header).await
            })
        },
    },
    Variant {
        name: "a node's name in capitals",
        tried: |c| {
            Box::pin(async move {
                let name = c.node()?.as_str().to_uppercase();
                changed(&c, |hello| hello.node = name).await
            })
        },
    },
    Variant {
        name: "a node's name that is a path",
        tried: |c| Box::pin(async move { changed(&c, |hello| hello.node = "../../keys".to_owned()).await }),
    },
    Variant {
        name: "a node's name with NUL",
        tried: |c| {
            Box::pin(async move {
                let name = format!("{}\0x", c.node()?);
                changed(&c, |hello| hello.node = name).await
            })
        },
    },
    Variant {
        name: "a session without a certificate",
        tried: |c| {
            Box::pin(async move {
                let said = tokio_stream::once(message(Message::Hello(raw_hello(&c.victim()?, boot(2)))));
                Ok(judged(AgentServiceClient::new(c.site.nobody().await?).session(said).await))
            })
        },
    },
    Variant {
        name: "an upload without a certificate",
        tried: |c| {
            Box::pin(async move {
                let (them, welcome, request) = collected(&c.site, &c.victim()?).await?;
                let stub = AgentServiceClient::new(c.site.nobody().await?);
                let answer = upload(stub, vec![begin(welcome, request, 0)]).await;
                drop(them);
                Ok(answer)
            })
        },
    },
    Variant {
        name: "an upload with the stolen session token of another node",
        tried: |c| {
            Box::pin(async move {
                let (them, stolen, request) = collected(&c.site, &c.victim()?).await?;
                let (me, _) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                let answer = upload(me.stub(), vec![begin(stolen, request, 0)]).await;
                drop(them);
                Ok(answer)
            })
        },
    },
    Variant {
        name: "an upload for the request of another node, with one's own token",
        tried: |c| {
            Box::pin(async move {
                let (them, _, request) = collected(&c.site, &c.victim()?).await?;
                let (me, welcome) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                let answer = upload(me.stub(), vec![begin(welcome.token, request, 0)]).await;
                drop(them);
                Ok(answer)
            })
        },
    },
    Variant {
        name: "an upload with a session token that is made up",
        tried: |c| {
            Box::pin(async move {
                let (me, token, request) = collected(&c.site, &c.node()?).await?;
                let mut forged = token.0;
                forged[15] ^= 1;
                Ok(upload(me.stub(), vec![begin(SessionToken(forged), request, 0)]).await)
            })
        },
    },
    Variant {
        name: "an upload with the token of a session that is over",
        tried: |c| {
            Box::pin(async move {
                let (mut old, token, request) = collected(&c.site, &c.node()?).await?;
                let (new, _) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                let ended = old.ended().await?;
                if let Answer::Accepted(what) = ended {
                    return Ok(Answer::accepted(format!("the older session: {what}")));
                }
                Ok(upload(new.stub(), vec![begin(token, request, 0)]).await)
            })
        },
    },
    Variant {
        name: "two live agents of one node: the older goes on",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                let (mut old, _) = Speaker::stand(&c.site, &node, boot(2)).await?;
                old.frames(3).await?;
                let (mut new, welcome) = Speaker::stand(&c.site, &node, boot(2)).await?;
                if welcome.have.map(|have| have.0) != Some(3) {
                    return Ok(Answer::accepted(format!("the newer one is told {:?}", welcome.have)));
                }
                let late = old.batch(2);
                old.say(FromAgent::Frames(late).into()).await;
                let answer = old.ended().await?;
                new.frames(2).await?;
                Ok(answer)
            })
        },
    },
    Variant {
        name: "two live agents of one node, in two boots",
        tried: |c| {
            Box::pin(async move {
                let node = c.node()?;
                let (mut old, _) = Speaker::stand(&c.site, &node, boot(2)).await?;
                c.audited(format!("node {node}"), Verb::ReplaceSession);
                let (mut new, _) = Speaker::stand(&c.site, &node, boot(3)).await?;
                new.frames(3).await?;
                let late = old.batch(2);
                old.say(FromAgent::Frames(late).into()).await;
                let answer = old.ended().await?;
                new.frames(3).await?;
                Ok(answer)
            })
        },
    },
    Variant {
        name: "done, for the request of another node",
        tried: |c| {
            Box::pin(async move {
                let (them, token, request) = collected(&c.site, &c.victim()?).await?;
                let (mut me, _) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                let done = CollectionDone { request, sources: Vec::new(), gaps: Vec::new() };
                me.say(FromAgent::Done(done).into()).await;
                // It was read: what came behind it is acknowledged.
                me.frames(1).await?;
                still_open(them, token, request).await
            })
        },
    },
    Variant {
        name: "progress, for the request of another node",
        tried: |c| {
            Box::pin(async move {
                let (them, token, request) = collected(&c.site, &c.victim()?).await?;
                let (mut me, _) = Speaker::stand(&c.site, &c.node()?, boot(2)).await?;
                let progress = CollectionProgress {
                    request,
                    source: "forged".to_owned(),
                    records: 1 << 40,
                    bytes: Bytes(1 << 50),
                };
                me.say(FromAgent::Progress(progress).into()).await;
                me.frames(1).await?;
                let told = c.site.progress_of(&c.victim()?).await?;
                if told.contains("forged") {
                    return Ok(Answer::accepted(told));
                }
                still_open(them, token, request).await
            })
        },
    },
    Variant {
        name: "done, for a request that nobody made",
        tried: |c| {
            Box::pin(async move {
                let (mut me, token, request) = collected(&c.site, &c.node()?).await?;
                let other = RequestId(request.0 ^ (1 << 40));
                let done = CollectionDone { request: other, sources: Vec::new(), gaps: Vec::new() };
                me.say(FromAgent::Done(done).into()).await;
                me.frames(1).await?;
                still_open(me, token, request).await
            })
        },
    },
];

/// A hello with something changed.
async fn changed(case: &Case, change: impl FnOnce(&mut v1::Hello)) -> Result<Answer> {
    let node: NodeName = case.node()?;
    let boot: BootId = boot(2);
    let mut said = raw_hello(&node, boot);
    change(&mut said);
    let mut me = Speaker::open(&case.site, &node, boot).await?;
    me.say(message(Message::Hello(said))).await;
    me.ended().await
}

/// A request must still be open: an upload for it is let begin.
async fn still_open(owner: Speaker, token: SessionToken, request: RequestId) -> Result<Answer> {
    let parts = tokio_stream::once(begin(token, request, 0));
    let mut answers = owner.stub().upload(parts).await.context("the request is closed")?.into_inner();
    Ok(match answers.message().await {
        Ok(Some(_)) => Answer::refused("it is not looked at"),
        other => Answer::accepted(format!("the request is not open any more: {other:?}")),
    })
}
