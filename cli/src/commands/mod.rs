//! One file per command. Each returns the exit code, or a failure.

use crate::args::Command;
use crate::context::Context;
use crate::failure::Failure;

mod clients;
mod completions;
mod health;
mod history;
mod list_zombies;
mod logs;
mod man;
mod report;
mod restart;
mod service;
pub mod shutdown;
mod status;
mod verify_ports;
mod workers;

pub async fn run(context: &mut Context, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Shutdown(args) => shutdown::run(context, args).await,
        Command::Status(args) => status::run(context, args).await,
        Command::VerifyPorts(args) => verify_ports::run(context, args).await,
        Command::ListZombies(args) => list_zombies::run(context, args).await,
        Command::Clients => clients::run(context).await,
        Command::Start(args) => workers::run(context, workers::Verb::Start, args).await,
        Command::Stop(args) => workers::run(context, workers::Verb::Stop, args).await,
        Command::Restart(args) => restart::run(context, args).await,
        Command::Logs(args) => logs::run(context, args).await,
        Command::Health(args) => health::run(context, args).await,
        Command::History(args) => history::run(context, args).await,
        Command::Report(args) => report::run(context, args).await,
        Command::Service(args) => service::run(context, args).await,
        Command::Completions(args) => completions::run(context, &args),
        Command::Man(args) => man::run(context, args),
    }
}
