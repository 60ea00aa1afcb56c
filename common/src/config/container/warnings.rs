//! Where a container could escape from mcpd, and what to write instead.

use super::super::mistakes::Mistake;
use super::super::worker::Transport;
use super::{ContainerCommand, EngineUse, engine_use, file_name};

/// What in this command could let a container escape.
pub(in super::super) fn warnings(command: &[String], transport: Transport) -> Vec<Mistake> {
    match engine_use(command) {
        EngineUse::None => vec![],
        EngineUse::Run(command) => of_run(&command, transport),
        EngineUse::Other(subcommand) => vec![of_other(file_name(&command[0]), &subcommand)],
    }
}

fn of_other(engine: &str, subcommand: &str) -> Mistake {
    mistake(
        format!(
            "mcpd can't prove that nothing is left of what \"{engine} {subcommand}\" starts in containers"
        ),
        format!("use \"{engine} run\", or write a stop_command and check the containers by hand"),
    )
}

fn of_run(command: &ContainerCommand, transport: Transport) -> Vec<Mistake> {
    let engine = command.engine_name();
    let options = &command.options;
    let mut found = vec![];
    let mut add = |is_found: bool, message: String, help: &str| {
        if is_found {
            found.push(mistake(message, help));
        }
    };
    let is_stdio = transport == Transport::Stdio;
    add(
        options.detach,
        if is_stdio {
            format!("with --detach \"{engine} run\" exits at once, and nothing connects mcpd with the server")
        } else {
            format!("with --detach \"{engine} run\" exits at once, so mcpd takes the worker for exited")
        },
        "leave out --detach (-d)",
    );
    add(
        is_stdio && !options.interactive && !options.detach,
        "without --interactive the server in the container gets no input, and can't answer".to_owned(),
        "add -i",
    );
    add(
        is_stdio && options.tty,
        "with --tty the container changes what the server reads and writes".to_owned(),
        "leave out --tty (-t)",
    );
    let restart = options.restart.as_deref().filter(|policy| *policy != "no");
    add(
        restart.is_some(),
        format!(
            "with --restart={} {engine} starts the container again by itself",
            restart.unwrap_or_default()
        ),
        "leave out --restart: mcpd restarts its workers",
    );
    add(
        !options.auto_remove && restart.is_none(),
        "without --rm each start leaves a stopped container".to_owned(),
        "add --rm",
    );
    add(
        options.cidfile.is_some(),
        format!("{engine} refuses to start while the file of --cidfile exists, and mcpd does not remove it"),
        "leave out --cidfile: mcpd adds one of its own",
    );
    found
}

fn mistake(message: String, help: impl Into<String>) -> Mistake {
    Mistake { message, help: help.into() }
}
