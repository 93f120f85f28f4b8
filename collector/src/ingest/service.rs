//! The gRPC service that agents see: hands each stream to a task of its own.

use std::sync::Arc;

use casefile_proto::session::SessionToken;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::agent_service_server::AgentService;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::adapters::Map;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Refusal;
use super::conversation::{Agent, Conversation, OUTBOX, Said};
use super::registry::Registry;
use super::upload::{self, ANSWERS};
use crate::identity::authorise::caller;
use crate::identity::caller::{Caller, Who};

/// What a session says, as it waits to be sent: boxed, as the queue of every session has room for many.
type Unboxed = Map<ReceiverStream<Box<Said>>, fn(Box<Said>) -> Said>;

pub(super) struct Service {
    registry: Arc<Registry>,
}

impl Service {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = Unboxed;
    type UploadStream = ReceiverStream<Result<v1::UploadResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let holder = holder(&request)?;
        let token = token().map_err(|_| Status::from(&Refusal::Short("random numbers")))?;
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let conversation = Conversation::new(Arc::clone(&self.registry), token, holder, outbox);
        self.registry.spawn(conversation.run(request.into_inner())).map_err(|refusal| Status::from(&refusal))?;
        let unboxed: fn(Box<Said>) -> Said = |said| *said;
        Ok(Response::new(ReceiverStream::new(messages).map(unboxed)))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let node = holder(&request)?.holder.node.clone();
        let mut inbound = request.into_inner();
        let admitted = upload::admit(&self.registry, &node, &mut inbound).await;
        let (begin, ticket) = admitted.map_err(|refusal| Status::from(&refusal))?;
        let (answers, messages) = mpsc::channel(ANSWERS);
        let registry = Arc::clone(&self.registry);
        self.registry
            .spawn(upload::run(registry, begin, ticket, inbound, answers))
            .map_err(|refusal| Status::from(&refusal))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Whose agent calls. The authoriser lets nobody else here.
fn holder<T>(request: &Request<T>) -> Result<Agent, Status> {
    let Caller { who: Who::Node(holder), from } = caller(request)? else {
        return Err(Status::permission_denied("only an agent may do this"));
    };
    Ok(Agent { holder, from })
}

/// 16 bytes that nobody can guess.
fn token() -> std::io::Result<SessionToken> {
    casefile_identity::random().map(SessionToken)
}
