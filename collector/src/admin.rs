//! What an admin does from a terminal: tokens are made, listed and revoked, and nodes are, through the API of a collector that runs, the
//! audit log is read where it lies.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use casefile_identity::dial::{Address, Api, dial_as};
use casefile_identity::token::Token;
use casefile_proto::identity::{NewToken, Person, Subject, TokenAsk, TokenInfo};
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_client::IdentityServiceClient;
use casefile_review::display::safe;

use crate::args::{AdminArgs, AuditArgs, CreateArgs, NodeVerb, TokenVerb};
use crate::{audit, data};

/// A broken chain was found.
const DAMAGE: u8 = 3;

/// The most bytes of the address file.
const SHORT: u64 = 256;

/// Makes, lists or revokes tokens.
pub async fn token(verb: TokenVerb) -> Result<ExitCode> {
    match verb {
        TokenVerb::Create(args) => create(args).await,
        TokenVerb::List { admin } => list(&admin).await,
        TokenVerb::Revoke { id, admin } => {
            let request = v1::RevokeTokenRequest::from(id);
            connect(&admin).await?.revoke_token(request).await.map_err(|s| said(&s))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Revokes what a node has.
pub async fn node(verb: NodeVerb) -> Result<ExitCode> {
    let NodeVerb::Revoke { node, admin } = verb;
    let request = v1::RevokeNodeRequest::from(node.clone());
    let answer = connect(&admin).await?.revoke_node(request).await.map_err(|s| said(&s))?.into_inner();
    let known =
        if answer.is_known { "" } else { "; no node of that name has ever streamed to this collector: is it right?" };
    let _unheard = writeln!(
        anstream::stderr(),
        "what node {node} has to show counts no more; it is back when it joins with a new token{known}"
    );
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateArgs) -> Result<ExitCode> {
    let subject = match (args.node, args.user) {
        (Some(node), _) => Subject::Node(node),
        (None, Some(name)) => Subject::Person(Person { name, roles: args.role }),
        (None, None) => anyhow::bail!("say for whom: --node NAME or --user NAME"),
    };
    let ask = TokenAsk { subject, ttl: args.ttl };
    let answer = connect(&args.admin).await?.create_token(v1::CreateTokenRequest::from(ask)).await;
    let made = NewToken::try_from(answer.map_err(|s| said(&s))?.into_inner())?;
    // The token alone on standard output, so that it can be handed on by a pipe and is in no log.
    writeln!(io::stdout().lock(), "{}", made.token).context("print the token")?;
    let _unheard = writeln!(
        anstream::stderr(),
        "token {} for {}, until {}; it is shown this once",
        made.kept.id,
        whom(&made.kept.subject),
        made.kept.expires
    );
    Ok(ExitCode::SUCCESS)
}

async fn list(admin: &AdminArgs) -> Result<ExitCode> {
    let answer = connect(admin).await?.list_tokens(v1::ListTokensRequest {}).await.map_err(|s| said(&s))?;
    let tokens = Vec::<TokenInfo>::try_from(answer.into_inner())?;
    let mut out = io::stdout().lock();
    for token in tokens {
        let TokenInfo { id, subject, created, expires } = token;
        writeln!(out, "{id}  made {created}  until {expires}  {}", whom(&subject)).context("print the tokens")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn whom(subject: &Subject) -> String {
    match subject {
        Subject::Node(node) => format!("node {node} (to join, once)"),
        Subject::Person(person) => {
            let roles: Vec<_> = person.roles.iter().map(|role| role.name()).collect();
            format!("{} ({})", person.name, roles.join(", "))
        }
    }
}

/// Prints the audit log and follows its chain.
pub fn audit(args: &AuditArgs) -> Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut printed = Ok(());
    let found = audit::read(&data::audit_below(&args.data), |line| {
        if printed.is_ok() {
            printed = if args.json {
                writeln!(out, "{line}")
            } else {
                let audit::Entry { who, from, verb, what, outcome, times } = &line.entry;
                let many = if *times > 1 { format!(" ({times} times)") } else { String::new() };
                let (who, what) = (safe(who), safe(what));
                writeln!(out, "{}  {}  {}  {who} from {from}: {what}{many}", line.at, outcome.word(), verb.word())
            };
        }
    })?;
    printed.and_then(|()| out.flush()).context("print the audit log")?;
    let head = found.head.map_or_else(|| "none".to_owned(), |head| head.to_string());
    let mut talk = anstream::stderr();
    if found.broken.is_empty() {
        let _unheard = writeln!(talk, "{} lines, chained without a break; the newest hash is {head}", found.lines);
        return Ok(ExitCode::SUCCESS);
    }
    let at: Vec<_> = found.broken.iter().take(10).map(u64::to_string).collect();
    let _unheard =
        writeln!(talk, "the chain is broken in {} places, first at line {}", found.broken.len(), at.join(", "));
    Ok(ExitCode::from(DAMAGE))
}

async fn connect(admin: &AdminArgs) -> Result<IdentityServiceClient<Api>> {
    let address = match &admin.collector {
        Some(address) => address.clone(),
        None => written(&admin.data)?,
    };
    let path = admin.token_file.clone().unwrap_or_else(|| data::owner_token_below(&admin.data));
    let token = Token::load(&path)?;
    let channel = dial_as(&address, &token, |endpoint| endpoint).await;
    let channel = channel.with_context(|| format!("no collector answers at {address}; is it running?"))?;
    Ok(IdentityServiceClient::new(channel))
}

/// Where the collector of a data directory listens.
fn written(dir: &Path) -> Result<Address> {
    use io::Read;
    let path = dir.join("address");
    let mut text = String::new();
    let file = std::fs::File::open(&path);
    file.and_then(|file| file.take(SHORT).read_to_string(&mut text))
        .with_context(|| format!("no collector runs on {}: read {}", dir.display(), path.display()))?;
    text.trim().parse().map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
}

fn said(status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the collector says: {}", status.message())
}
