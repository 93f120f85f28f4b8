//! Every method times every kind of caller, over the wire: who gets through to a method and who is stopped before it.
//!
//! `UPDATE_GOLDEN=1` writes the table anew; read the diff before you commit it: each cell that becomes `yes` is a door.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use casefile_identity::dial::{Me, dial};
use casefile_identity::token::{Kind, Token};
use casefile_proto::identity::{NewToken, Person, Role, Subject, TokenAsk};
use casefile_proto::wire::METHODS;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::identity_service_client::IdentityServiceClient;
use casefile_tests::{Rig, now, stop};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http::{Request, header};
use tonic::transport::Channel;

/// Whether a call got through to the method: anything but a refusal by the authoriser.
async fn gets_through(channel: &Channel, method: &str, bearer: Option<&str>) -> bool {
    let mut request = Request::post(format!("http://casefile{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    if let Some(token) = bearer {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::empty()).unwrap();
    let mut channel = channel.clone();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let answer = tokio::time::timeout(casefile_tests::SOON, channel.call(request)).await.unwrap().unwrap();
    // The authoriser answers at once, with headers alone.
    let status = answer.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
    let said = answer.headers().get("grpc-message").map_or("", |text| text.to_str().unwrap());
    let refused = matches!(status.as_deref(), Some("7" | "16"));
    // An enrolment without anything is refused by its own method, in its own words.
    !refused || said.starts_with("an%20enrolment")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_lets_through_whom_it_should_and_nobody_else() {
    let rig = Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    let to = rig.url().parse().unwrap();
    let owner = rig.owner().unwrap();
    let pin = owner.pin();
    let api = casefile_identity::dial::dial_as(&to, &owner, |endpoint| endpoint).await.unwrap();
    let mut tokens = Vec::new();
    for role in Role::ALL {
        let person = Person { name: role.name().parse().unwrap(), roles: vec![role] };
        let ask = TokenAsk { subject: Subject::Person(person), ttl: Duration::from_secs(600) };
        let made = IdentityServiceClient::new(api.clone()).create_token(v1::CreateTokenRequest::from(ask)).await;
        tokens.push((role.name(), NewToken::try_from(made.unwrap().into_inner()).unwrap()));
    }
    // A join token is not for people, a revoked one is for nobody, and another collector's neither.
    let join = TokenAsk { subject: Subject::Node("n".parse().unwrap()), ttl: Duration::from_secs(600) };
    let made = IdentityServiceClient::new(api.clone()).create_token(v1::CreateTokenRequest::from(join)).await.unwrap();
    let join = NewToken::try_from(made.into_inner()).unwrap().token;
    let gone = TokenAsk {
        subject: Subject::Person(Person { name: "gone".parse().unwrap(), roles: vec![Role::Admin] }),
        ttl: Duration::from_secs(600),
    };
    let made = IdentityServiceClient::new(api.clone()).create_token(v1::CreateTokenRequest::from(gone)).await.unwrap();
    let gone = NewToken::try_from(made.into_inner()).unwrap();
    IdentityServiceClient::new(api).revoke_token(v1::RevokeTokenRequest::from(gone.kept.id)).await.unwrap();

    let nobody = dial(&to, &Me::Nobody(pin), |endpoint| endpoint).await.unwrap();
    let authority = rig.authority().unwrap();
    let node = authority.agent(&"n".parse().unwrap(), now(), Duration::from_secs(600)).unwrap();
    let agent = dial(&to, &Me::Agent(node), |endpoint| endpoint).await.unwrap();
    let forged = Token::new(Kind::Api, pin).unwrap().reveal();
    let mut callers: Vec<(&str, &Channel, Option<String>)> = vec![
        ("nobody", &nobody, None),
        ("forged", &nobody, Some(forged)),
        ("join-token", &nobody, Some(join)),
        ("revoked", &nobody, Some(gone.token)),
        ("agent", &agent, None),
        ("agent+admin", &agent, Some(tokens[3].1.token.clone())),
    ];
    callers.extend(tokens.iter().map(|(name, made)| (*name, &nobody, Some(made.token.clone()))));

    let mut table = format!("{:<44}", "method");
    callers.iter().for_each(|(name, ..)| write!(table, " {name:>11}").unwrap());
    let unknown = ["/casefile.v1.IncidentService/DeleteIncident", "/casefile.v1.AgentService", "/", "/healthz"];
    for method in METHODS.iter().chain(&unknown) {
        write!(table, "\n{method:<44}").unwrap();
        for (_, channel, bearer) in &callers {
            let through = gets_through(channel, method, bearer.as_deref()).await;
            write!(table, " {:>11}", if through { "yes" } else { "-" }).unwrap();
        }
    }
    table.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/golden/roles.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &table).unwrap();
    }
    let kept = std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    assert_eq!(table, kept, "the table of roles changed; UPDATE_GOLDEN=1 takes it over");
    stop(collector).await;
}
