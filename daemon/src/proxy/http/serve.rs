//! One task for each client connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::client::{After, Arrival, Client};
use super::exchange::exchange;
use super::reply::Reply;
use super::response::Next;
use crate::deadline::Deadline;
use crate::proxy::listener::Listener;
use crate::proxy::observe::registry::Entry;

/// Serves until the client disconnects or mcpd closes the connection.
pub async fn serve(listener: Arc<Listener>, stream: TcpStream, entry: Entry) {
    let mut client = Client::new(stream, entry.connection.clone());
    loop {
        let after = match client.next_head(&listener).await {
            // Boxed, so that an idle connection does not own the memory of a request.
            Arrival::Request(head) => Box::pin(exchange(&listener, &mut client, head)).await,
            Arrival::Refused(refusal) => {
                client.reply(&listener, &refusal.reply(&listener.name), Next::Close, true).await
            }
            Arrival::TooSlow => {
                let reply = Reply::text(408, "the header fields did not come in time\n");
                client.reply(&listener, &reply, Next::Close, true).await
            }
            Arrival::Closed => After::Close,
        };
        match after {
            After::NextRequest => {}
            After::Close => return,
            After::Linger => return client.linger().await,
        }
    }
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    TooMany,
    OtherUser,
}

impl TurnedAway {
    fn reply(self) -> Reply {
        match self {
            Self::TooMany => Reply::later("too many connections to this server\n".to_owned()),
            Self::OtherUser => Reply::text(
                403,
                "this server belongs to another user of this machine; its owner can write \
                 allow_other_users = true under [workers.NAME] in the configuration of mcpd\n",
            ),
        }
    }
}

/// Responds to the first request of a connection that is not served.
pub async fn turn_away(listener: &Listener, stream: TcpStream, entry: Entry, why: TurnedAway) {
    const LIMIT: Duration = Duration::from_secs(10);
    let mut client = Client::new(stream, entry.connection.clone());
    let answered = async {
        if !matches!(client.next_head(listener).await, Arrival::Closed) {
            client.reply(listener, &why.reply(), Next::Close, true).await;
        }
    };
    // A client that does not read the response is cut off.
    if Deadline::after(LIMIT).wait(answered).await.is_ok() {
        client.linger().await;
    }
}
