//! Commands of people, and what mcpd has to know about them.

use proptest::prelude::*;

use super::super::worker::Transport;
use super::*;

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

fn parse(command: &str) -> ContainerCommand {
    ContainerCommand::parse(&words(command)).unwrap_or_else(|| panic!("{command} runs a container"))
}

fn found(command: &str, transport: Transport) -> Vec<String> {
    warnings(&words(command), transport)
        .into_iter()
        .map(|it| format!("{}; {}", it.message, it.help))
        .collect()
}

#[test]
fn the_engine_is_found_with_its_global_options() {
    for (command, engine, index) in [
        ("docker run image", "docker", 1),
        ("/usr/bin/docker run -i image", "/usr/bin/docker", 1),
        ("docker container run image", "docker", 2),
        ("docker --context x run image", "docker --context x", 3),
        ("docker -c run run image", "docker -c run", 3),
        ("docker -D --host=tcp://h:1 run image", "docker -D --host=tcp://h:1", 3),
        ("docker -Hunix:///s run image", "docker -Hunix:///s", 2),
        ("podman --root /r --remote run image", "podman --root /r --remote", 4),
        ("podman -r --url ssh://h run image", "podman -r --url ssh://h", 4),
    ] {
        let parsed = parse(command);
        assert_eq!(parsed.engine, words(engine), "{command}");
        assert_eq!(parsed.options_index(), index, "{command}");
    }
}

#[test]
fn what_runs_no_container_is_not_taken_for_one() {
    for command in [
        "npx run",
        "docker",
        "docker compose run web",
        "docker exec -i c server",
        "docker --context run",
        "sh -c docker",
        "podman start -a c",
    ] {
        assert_eq!(ContainerCommand::parse(&words(command)), None, "{command}");
    }
    assert_eq!(ContainerCommand::parse(&[]), None);
}

#[test]
fn options_are_read_up_to_the_image() {
    for (command, auto_remove, cidfile) in [
        ("docker run --rm image", true, None),
        ("docker run -it --rm=false image --rm", false, None),
        ("docker run -e --rm image", false, None),
        ("docker run -ie A=1 -p8080:80 --rm image", true, None),
        ("docker run --name x --cidfile /c image --rm", false, Some("/c")),
        ("docker run --cidfile=/c -- image --rm", false, Some("/c")),
        ("podman run --replace --rm image", true, None),
    ] {
        let parsed = parse(command);
        assert_eq!((parsed.auto_remove, parsed.cidfile.as_deref()), (auto_remove, cidfile), "{command}");
    }
}

/// R-STDIO-6.
#[test]
fn each_way_to_escape_has_its_warning() {
    let good = "docker run -i --rm -e KEY=1 --restart no image -d --restart always";
    assert_eq!(found(good, Transport::Stdio), [""; 0]);
    assert_eq!(found("docker run --rm -p {port}:80 image", Transport::Http), [""; 0]);
    for (command, part) in [
        ("docker run --rm -d image", "leave out --detach"),
        ("docker run --rm image", "add -i"),
        ("docker run --rm -it image", "leave out --tty"),
        ("docker run -i --restart=always image", "with --restart=always docker starts the container again"),
        ("docker run -i image", "add --rm"),
        (
            "podman run -i --rm --cidfile c image",
            "podman refuses to start while the file of --cidfile exists",
        ),
        ("docker compose up", "what \"docker compose\" starts"),
        ("/opt/bin/podman exec -i c server", "what \"podman exec\" starts"),
    ] {
        let found = found(command, Transport::Stdio);
        assert_eq!(found.len(), 1, "{command}: {found:?}");
        assert!(found[0].contains(part), "{command}: {found:?}");
    }
    assert!(found("docker run --rm -d image", Transport::Http)[0].contains("takes the worker for exited"));
}

proptest! {
    /// What mcpd adds never changes what the engine runs: the words before and after stay.
    #[test]
    fn added_options_stand_right_after_run(
        globals in prop::collection::vec(prop::sample::select(vec!["--context", "run", "-D", "--tls", "x"]), 0..4),
        rest in prop::collection::vec(prop::sample::select(vec!["run", "-i", "--rm", "-e", "--", "image", "-", ""]), 0..6),
    ) {
        let command: Vec<_> =
            ["docker"].into_iter().chain(globals).chain(["run"]).chain(rest).map(str::to_owned).collect();
        if let Some(parsed) = ContainerCommand::parse(&command) {
            prop_assert_eq!(&command[parsed.options_index()], "run");
            prop_assert!(command.starts_with(&parsed.engine));
            prop_assert!(parsed.engine.len() <= parsed.options_index());
        }
    }
}
