//! `mcpctl clients`: all client connections with process and session.

use mcpd_common::status::{ClientConnection, ClientList};
use mcpd_proto::v1;

use crate::color::Tone;
use crate::context::Context;
use crate::daemon_client::{SCAN_TIMEOUT, bad_reply};
use crate::document::Document;
use crate::failure::{Failure, SUCCESS};
use crate::formatting::Clock;
use crate::table::{Column, Table, cell, maybe};

const ACTION: &str = "list the clients";

pub async fn run(context: &mut Context) -> Result<u8, Failure> {
    let mut daemon = context.require_daemon(ACTION).await?;
    let wait = daemon.wait_for(ACTION, "the list of clients", SCAN_TIMEOUT);
    let message = wait.reply(daemon.control.list_clients(v1::ListClientsRequest {})).await?;
    let list: ClientList = message.try_into().map_err(|error| bad_reply(ACTION, error))?;
    if context.out.is_json() {
        context.out.json(&list);
    } else {
        let mut doc = context.out.document();
        render(&mut doc, &list, &context.clock());
        context.out.print(doc);
    }
    Ok(SUCCESS)
}

fn render(doc: &mut Document, list: &ClientList, clock: &Clock) {
    if list.clients.is_empty() {
        return doc.sentence("No client is connected", Tone::Plain);
    }
    let mut table = Table::new([
        Column::new("ID").right().optional(4),
        Column::new("WORKER").cut(8),
        Column::new("CLIENT").cut(12),
        Column::new("PID").right(),
        Column::new("SINCE").right(),
        Column::new("REQUESTS").right(),
        Column::new("STREAMS").right().optional(2),
        Column::new("SESSION").cut(8).optional(1),
        Column::new("ADDRESS").optional(3),
    ]);
    for client in &list.clients {
        let ClientConnection { id, worker, peer, process, since, requests, session, streams } = client;
        table.row([
            maybe(*id),
            cell(worker),
            maybe(process.as_ref().map(|process| &process.name)),
            maybe(process.as_ref().map(|process| process.pid)),
            maybe(since.map(|since| clock.since(since))),
            maybe(*requests),
            maybe(*streams),
            maybe(session.as_ref()),
            cell(peer),
        ]);
    }
    doc.table(&table);
}
