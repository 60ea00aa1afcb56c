//! One MCP session as the client knows it, whatever becomes of the worker behind it
//! (R-CLIENT-3). Pure logic over messages, apart from the network.
//!
//! ```text
//!   client  --S-->  mcpd  --W1-->  worker, epoch 1
//!                         --W2-->  worker, epoch 2      (initialized anew with what the client once sent)
//! ```
//!
//! The client keeps its session id `S`. What it once sent that still matters (its `initialize`, the log
//! level, its subscriptions) is kept and replayed to the next worker. Ids of requests from worker to
//! client carry the epoch, so that a late response to an old worker is never taken for one to the
//! new worker, which may have used the same id.

use std::collections::BTreeSet;

use mcpd_common::ids::RunTag;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::random::hex;

/// Identifies one process of a worker. Sessions outlive the daemon, so epochs are unique over all runs.
pub type Epoch = u64;

/// The epoch of a session that no worker knows.
const NO_WORKER: Epoch = 0;

/// The epoch of this process of a worker, the first of a run being 1.
pub fn epoch(run: RunTag, process: u32) -> Epoch {
    u64::from(run.0) << 32 | u64::from(process)
}

/// What is kept of a session. Its JSON goes into the journal, without headers, because they carry
/// secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The id that the client knows.
    pub id: String,
    /// The path of the MCP endpoint.
    pub path: String,
    /// The id that the current worker gave it.
    pub worker_id: String,
    /// The epoch of the worker that knows it.
    pub epoch: Epoch,
    initialize: Value,
    agreed: Option<Agreed>,
    initialized: bool,
    log_level: Option<Value>,
    subscriptions: BTreeSet<String>,
    /// Requests of the worker that the client has not answered; none after the daemon was replaced.
    #[serde(skip)]
    asked: BTreeSet<String>,
    /// How often it was replayed by this daemon.
    #[serde(skip)]
    pub replays: u32,
    /// The client has not yet got the `list_changed` notifications.
    owes_changes: bool,
}

/// The negotiated version and capabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Agreed {
    version: Value,
    capabilities: Value,
}

/// The new worker does not continue the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the new worker {0}")]
pub struct ReplayRefused(pub String);

/// The id of the replayed `initialize`; the client never sees it.
pub const REPLAY_ID: &str = "mcpd-replay";

impl Session {
    /// A session that begins: the worker answered `initialize` with a session id.
    pub fn begin(id: String, path: String, worker_id: String, epoch: Epoch, initialize: Value) -> Self {
        Self {
            id,
            path,
            worker_id,
            epoch,
            initialize,
            agreed: None,
            initialized: false,
            log_level: None,
            subscriptions: BTreeSet::new(),
            asked: BTreeSet::new(),
            replays: 0,
            owes_changes: false,
        }
    }

    /// The worker's answer to `initialize`.
    pub fn agree(&mut self, result: &Value) {
        self.agreed = Some(Agreed {
            version: result["protocolVersion"].clone(),
            capabilities: result["capabilities"].clone(),
        });
    }

    /// Keeps a message of the client if a replay needs it.
    pub fn note(&mut self, message: &Value) {
        let params = &message["params"];
        let uri = || params["uri"].as_str().map(str::to_owned);
        match message["method"].as_str() {
            Some("notifications/initialized") => self.initialized = true,
            Some("logging/setLevel") => self.log_level = Some(params.clone()),
            Some("resources/subscribe") => self.subscriptions.extend(uri()),
            Some("resources/unsubscribe") => {
                if let Some(uri) = uri() {
                    self.subscriptions.remove(&uri);
                }
            }
            _ => {}
        }
    }

    /// The protocol version for the header of later requests.
    pub fn version(&self) -> Option<&str> {
        self.agreed.as_ref()?.version.as_str()
    }

    /// Whether the worker declared that it logs.
    pub fn has_logging(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| !agreed.capabilities["logging"].is_null())
    }

    /// The first message for a new worker.
    pub fn hello(&self) -> Value {
        json!({ "jsonrpc": "2.0", "id": REPLAY_ID, "method": "initialize", "params": self.initialize })
    }

    /// The new worker responded to [`hello`](Self::hello): returns the next messages of the replay.
    ///
    /// # Errors
    /// When it refuses, or negotiates another version.
    pub fn renew(
        &mut self,
        epoch: Epoch,
        worker_id: String,
        answer: &Value,
    ) -> Result<Vec<Value>, ReplayRefused> {
        let result = &answer["result"];
        if !result.is_object() {
            return Err(ReplayRefused("refused to initialize".to_owned()));
        }
        if let Some(agreed) = &self.agreed
            && agreed.version != result["protocolVersion"]
        {
            return Err(ReplayRefused(format!("speaks version {}", result["protocolVersion"])));
        }
        self.agree(result);
        self.epoch = epoch;
        self.worker_id = worker_id;
        self.owes_changes = true;
        Ok(self.once_more())
    }

    /// The worker does not know the session any more, says a response to a request that was sent after this number of
    /// replays: the next request replays it. Another one may have done that meanwhile.
    pub fn lose(&mut self, replays: u32) {
        if self.replays == replays {
            self.epoch = NO_WORKER;
        }
    }

    /// Takes over what a replay of a copy changed; requests may have changed this one meanwhile.
    pub fn adopt(&mut self, renewed: Self) {
        self.replays += 1;
        self.epoch = renewed.epoch;
        self.worker_id = renewed.worker_id;
        self.agreed = renewed.agreed;
        self.owes_changes = renewed.owes_changes;
    }

    fn once_more(&self) -> Vec<Value> {
        let mut messages = vec![];
        if self.initialized {
            messages.push(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        }
        let mut request = |method: &str, params: Value| {
            let id = format!("{REPLAY_ID}-{}", messages.len());
            messages.push(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        };
        if let Some(level) = &self.log_level {
            request("logging/setLevel", level.clone());
        }
        for uri in &self.subscriptions {
            request("resources/subscribe", json!({ "uri": uri }));
        }
        messages
    }

    /// The `list_changed` notifications that the client gets once after a replay.
    pub fn take_list_changed(&mut self) -> Vec<Value> {
        let owed = std::mem::take(&mut self.owes_changes);
        let Some(agreed) = self.agreed.as_ref().filter(|_| owed) else {
            return vec![];
        };
        let declared = |kind: &&str| agreed.capabilities[*kind]["listChanged"] == true;
        LISTS.into_iter().filter(declared).map(list_changed).collect()
    }

    /// A message from worker to client: ids of the worker's own requests get the epoch. `None`: it
    /// is passed on unchanged.
    pub fn outward(&mut self, message: &Value) -> Option<Value> {
        let method = message["method"].as_str()?;
        let mut rewritten = message.clone();
        match message.get("id") {
            Some(id) if !id.is_null() => {
                let id = with_epoch(self.epoch, id);
                self.asked.insert(id.clone());
                rewritten["id"] = id.into();
            }
            _ if method == "notifications/cancelled" => {
                let id = with_epoch(self.epoch, &message["params"]["requestId"]);
                self.asked.remove(&id).then(|| rewritten["params"]["requestId"] = id.into())?;
            }
            _ => return None,
        }
        Some(rewritten)
    }

    /// A response from client to worker, with the worker's own id; `None` if that worker has exited, or
    /// no such request is open.
    pub fn inward(&mut self, answer: &Value) -> Option<Value> {
        let id = answer["id"].as_str()?;
        let (epoch, original) = without_epoch(id)?;
        let expected = self.asked.remove(id) && epoch == self.epoch;
        let mut restored = answer.clone();
        restored["id"] = original;
        expected.then_some(restored)
    }

    /// The worker exited: cancels its open requests at the client.
    pub fn cancel_asked(&mut self) -> Vec<Value> {
        let cancel = |id: String| {
            let params = json!({ "requestId": id, "reason": "the server was restarted" });
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })
        };
        std::mem::take(&mut self.asked).into_iter().map(cancel).collect()
    }
}

/// What a worker has lists of.
pub const LISTS: [&str; 3] = ["tools", "prompts", "resources"];

/// The notification that one of the [`LISTS`] may be another one.
pub fn list_changed(kind: &str) -> Value {
    json!({ "jsonrpc": "2.0", "method": format!("notifications/{kind}/list_changed") })
}

fn with_epoch(epoch: Epoch, id: &Value) -> String {
    format!("mcpd.{epoch:x}.{id}")
}

fn without_epoch(id: &str) -> Option<(Epoch, Value)> {
    let (epoch, id) = id.strip_prefix("mcpd.")?.split_once('.')?;
    Some((Epoch::from_str_radix(epoch, 16).ok()?, serde_json::from_str(id).ok()?))
}

/// What the id of an event encodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId {
    pub epoch: Epoch,
    /// The request whose response has the event; `None`: a `GET` stream.
    pub request: Option<Value>,
    /// The worker's own event id.
    pub inner: String,
}

impl EventId {
    /// As the client sees it.
    pub fn write(&self) -> String {
        let kind = self.request.as_ref().map(|id| hex(id.to_string().as_bytes()));
        format!("{:x}.{}.{}", self.epoch, kind.unwrap_or_default(), self.inner)
    }

    /// Reads `Last-Event-ID`; `None` if mcpd did not write it.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let epoch = parts.next()?;
        let kind = parts.next()?;
        let inner = parts.next()?;
        let request = match kind {
            "" => None,
            kind => Some(serde_json::from_slice(&unhex(kind)?).ok()?),
        };
        let epoch = Epoch::from_str_radix(epoch, 16).ok()?;
        Some(Self { epoch, request, inner: inner.to_owned() })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.len().is_multiple_of(2).then(|| text.as_bytes().chunks(2).map(digits).collect())?
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
