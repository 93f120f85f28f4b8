//! The way to a collector: where it is, a connection with a deadline, and errors that say what to try.

use std::fs;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use casefile_identity::dial::{Address, Api, Disbelief, dial_as, dial_as_foreign, disbelief};
use casefile_identity::foreign::{AnyToken, load_pin};
use casefile_identity::token::{Pin, Token, TokenFileError};
use casefile_proto::wire::v1::connectivity_service_client::ConnectivityServiceClient;
use casefile_proto::wire::v1::incident_service_client::IncidentServiceClient;
use casefile_proto::wire::v1::node_service_client::NodeServiceClient;

use crate::args::CollectorArgs;
use crate::named::{Called, called};

/// Where a collector listens unless it was told otherwise.
const DEFAULT: &str = "127.0.0.1:7443";

/// Holds the token itself, for programs that are given secrets in their environment.
const TOKEN: &str = "CASEFILE_TOKEN";

/// A collector that is there answers within this.
const CONNECT: Duration = Duration::from_secs(5);

/// An answer that is not a stream comes within this.
const UNARY: Duration = Duration::from_secs(30);

/// The largest answer that is not a stream: a coverage of thousands of nodes.
const MAX_ANSWER: usize = 64 << 20;

/// Runs one conversation on a runtime of its own.
pub(crate) fn block_on<T>(conversation: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(conversation)
}

/// A connection to the collector.
pub(crate) async fn connect(args: &CollectorArgs) -> Result<Api> {
    let said = address(args)?;
    let address: Address = said.parse().map_err(|why| anyhow::anyhow!("{said} {why}"))?;
    let (pin, token) = credential(args, &said)?;
    let dialling = async {
        match &token {
            AnyToken::Ours(token) => dial_as(&address, token, |endpoint| endpoint).await,
            AnyToken::Foreign(token) => dial_as_foreign(&address, pin, token, |endpoint| endpoint).await,
        }
    };
    match tokio::time::timeout(CONNECT, dialling).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => {
            if disbelief(&error) == Some(Disbelief::OtherAuthority) {
                match token {
                    AnyToken::Ours(_) => {
                        bail!("{address} is not the collector that made this token: it has another authority")
                    }
                    AnyToken::Foreign(_) => {
                        bail!("{address} is not the collector of this pin: it has another authority")
                    }
                }
            }
            Err(error).with_context(|| {
                let running = match called() {
                    Called::Casefile => "is it running? (--collector URL or --data DIR say where)",
                    Called::Plugin => {
                        "is it made reachable? (kubectl -n casefile port-forward svc/casefile-collector 7443; --collector URL \
                         says another place)"
                    }
                };
                format!("no collector answers at {address}; {running}")
            })
        }
        Err(_) => bail!("no collector answered at {address} within {} s", CONNECT.as_secs()),
    }
}

/// The incident service.
pub(crate) async fn incidents(args: &CollectorArgs) -> Result<IncidentServiceClient<Api>> {
    Ok(IncidentServiceClient::new(connect(args).await?).max_decoding_message_size(MAX_ANSWER))
}

/// The connectivity service.
pub(crate) async fn connectivity(args: &CollectorArgs) -> Result<ConnectivityServiceClient<Api>> {
    Ok(ConnectivityServiceClient::new(connect(args).await?).max_decoding_message_size(MAX_ANSWER))
}

/// The node service.
pub(crate) async fn nodes(args: &CollectorArgs) -> Result<NodeServiceClient<Api>> {
    Ok(NodeServiceClient::new(connect(args).await?).max_decoding_message_size(MAX_ANSWER))
}

/// A request that is given up after [`UNARY`].
pub(crate) fn request<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(UNARY);
    request
}

/// What the collector said, as an error that a person reads.
pub(crate) fn said(status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the collector says: {}", status.message())
}

/// The flag, else the file that a collector on this machine wrote, else the default.
fn address(args: &CollectorArgs) -> Result<String> {
    if let Some(given) = &args.collector {
        return Ok(given.clone());
    }
    let path = args.data.join("address");
    let mut text = String::new();
    match fs::File::open(&path).and_then(|file| file.take(256).read_to_string(&mut text)) {
        Ok(_) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DEFAULT.to_owned()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Who asks, and whom to believe: a token of a collector says both, one of a cluster only the first.
fn credential(args: &CollectorArgs, address: &str) -> Result<(Pin, AnyToken)> {
    let token = token(args, address)?;
    let said = match &args.pin_file {
        None => args.pin,
        Some(path) => match load_pin(path)? {
            None => bail!("{} holds no pin: has the collector started yet?", path.display()),
            Some(pin) if args.pin.is_some_and(|other| other != pin) => {
                bail!("--pin and {} name two collectors: which one?", path.display())
            }
            Some(pin) => Some(pin),
        },
    };
    let pin = match (&token, said) {
        (AnyToken::Ours(token), Some(pin)) if token.pin() != pin => {
            bail!("the token was made by another collector than the one of the pin: its authority is {}", token.pin())
        }
        (AnyToken::Ours(token), _) => token.pin(),
        (AnyToken::Foreign(_), Some(pin)) => pin,
        (AnyToken::Foreign(_), None) => bail!(
            "a token of a cluster does not say which collector to trust: say it with --pin or --pin-file; it is what \
             kubectl -n casefile get configmap casefile-authority -o jsonpath={{.data.pin}} prints"
        ),
    };
    Ok((pin, token))
}

/// The file that the flag names, else what the environment holds, else the token of the owner of the data directory.
fn token(args: &CollectorArgs, address: &str) -> Result<AnyToken> {
    if let Some(path) = &args.token_file {
        return Ok(AnyToken::load(path)?);
    }
    if let Some(text) = std::env::var_os(TOKEN).filter(|text| !text.is_empty()) {
        let text = text.to_str().unwrap_or_default();
        return text.trim().parse().map_err(|why| anyhow::anyhow!("{TOKEN} {why}"));
    }
    let path = args.data.join("keys").join("owner.token");
    match Token::load(&path) {
        Err(TokenFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => bail!(
            "no token for the collector at {address}: --token-file FILE or {TOKEN} gives one, and the owner of a collector \
             on this machine needs only --data DIR with its data directory ({} is not there)",
            path.display()
        ),
        loaded => Ok(AnyToken::Ours(loaded?)),
    }
}
