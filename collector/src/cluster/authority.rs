//! Tells the cluster which authority is this collector's: its pin in a config map, which agents have mounted and people can read.
//!
//! The config map is made by whoever installs us; we may read and change that one. What else stands in it stays. It is looked at
//! from time to time: whoever installs anew empties it.

use std::time::Duration;

use casefile_identity::token::Pin;
use serde::Deserialize;
use serde_json::json;
use tonic::codegen::http::Method;

use super::config::Account;
use super::{Api, ApiError};

/// The key in the config map.
pub const PIN: &str = "pin";

/// The largest config map: etcd takes no larger object, and JSON is larger.
const CONFIG_MAP: usize = 4 << 20;

/// Each answer comes within this.
const WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_mins(5);

/// The first wait after a failure; it doubles up to [`LOOK_EVERY`].
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConfigMap {
    data: Option<std::collections::BTreeMap<String, String>>,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// It stands there.
    Already,
    /// It was not there, and is now.
    Written,
    /// Another one was there.
    Replaced,
}

/// Sees to it that the pin stands in the config map. Never ends.
pub(super) async fn keep(api: Api, at: Account, pin: Pin) {
    let (mut again, mut said) = (AGAIN, String::new());
    loop {
        let wait = match tell(&api, &at, pin).await {
            Ok(told) => {
                match told {
                    Told::Already => tracing::debug!(config_map = %at, "the pin of this collector stands there"),
                    Told::Written => tracing::info!(config_map = %at, %pin, "wrote the pin of this collector"),
                    Told::Replaced => tracing::warn!(
                        config_map = %at,
                        %pin,
                        "replaced another pin: agents that knew that collector take up this one (is there another collector \
                         with the same config map?)"
                    ),
                }
                again = AGAIN;
                said.clear();
                LOOK_EVERY
            }
            Err(error) => {
                let text = error.to_string();
                if text != said {
                    let help = match &error {
                        e if e.is_not_found() => "there is no such config map: the installation makes it, empty",
                        e if e.is_forbidden() => "the service account needs get and patch on this config map",
                        _ => "it is tried again",
                    };
                    tracing::warn!(config_map = %at, error = text, help, "agents do not learn the pin of this collector");
                    said = text;
                }
                let wait = again;
                again = (again * 2).min(LOOK_EVERY);
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn tell(api: &Api, at: &Account, pin: Pin) -> Result<Told, ApiError> {
    let path = format!("/api/v1/namespaces/{}/configmaps/{}", at.namespace(), at.name());
    let found = api.get(&path, CONFIG_MAP, WITHIN).await?;
    let found: ConfigMap =
        serde_json::from_slice(&found).map_err(|_| ApiError::Malformed("it is no config map".to_owned()))?;
    let pin = pin.to_string();
    let before = found.data.as_ref().and_then(|data| data.get(PIN)).map(|text| text.trim());
    if before == Some(pin.as_str()) {
        return Ok(Told::Already);
    }
    let told = if before.is_none_or(str::is_empty) { Told::Written } else { Told::Replaced };
    let mut data = serde_json::Map::new();
    data.insert(PIN.to_owned(), pin.into());
    api.send_json(Method::PATCH, &path, &json!({"data": data}), CONFIG_MAP, WITHIN).await?;
    Ok(told)
}
