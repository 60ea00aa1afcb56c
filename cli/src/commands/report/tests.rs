//! The text of a report at 80 and at 200 columns, and where reports are found.

use std::fs;

use super::*;
use crate::color::Palette;
use crate::document::Document;
use crate::test_data;

fn shown(width: usize) -> String {
    let mut doc = Document::new(Palette::Plain, width);
    render::report(&mut doc, &test_data::report(), &test_data::clock());
    doc.into_text()
}

/// R-CLI-1, R-LOG-1.
#[test]
fn a_report_at_80_columns() {
    insta::assert_snapshot!(shown(80), @r"
    Shutdown of run 20261122T130501Z-3f9a2c77
      Reason    manual
      When      2026-11-22 14:00:00 to 2026-11-22 14:00:30 (30.0 s)

    Phases
    PHASE              OUTCOME      TOOK  LIMIT
    initiated          done         0 ms    0 s
    workers-graceful   timed out  10.0 s   10 s
    clients            done         1 ms   30 s
    workers-terminate  findings   20.0 s   20 s
    verification       findings    12 ms   15 s
    exit               done         3 ms    1 s

    Workers
    WORKER     PID  ASKED  ANSWER  ENDED            AFTER  DESCENDANTS  CHECKS
    alpha     4711  POST   202     exit 0           12 ms            0  2 ok
    docs      4711  POST   202     after SIGTERM:  10.0 s            0  2 ok
                                   exit 143
    web-fro…  4711  POST   202     by SIGKILL      30.0 s            2  failed: port
      web-frontend, port: port 8082 is held by python3 (pid 991, user kim)
      web-frontend, outlived the main process: node server.js (pid 4720, kim)

    Clients
    2 connected, 0 notified, 1 disconnected, 1 closed by force
    WORKER  ADDRESS          CLIENT                  DISCONNECTED AFTER
    alpha   127.0.0.1:40312  claude (pid 3001, kim)                4 ms
    alpha   127.0.0.1:40313  -                                   forced

    Ports
    PORT  WORKER  STATE             HELD BY
    8082  docs    in use            python3 -m http.server 8082 (pid 991, kim,
                                    LISTEN 127.0.0.1:8082); python3 -m http.server
                                    8082 (unknown pid, root, LISTEN 127.0.0.1:8082)
    8083  -       free (TIME_WAIT)  -
    8084  -       free              -

    Resources
    RESOURCE  CLOSED   TOOK  ERROR
    cache     failed  31 ms  close: exit 1
    journal   ok       2 ms  -

    Daemon process
    file descriptors: 12 at the start, 13 at the end; threads: 4 at the start, 4
      at the end
      still open: 17: /tmp/x

    Findings
    CODE  FOUND         WHAT
       4  8082          port 8082 is held by python3 -m http.server 8082 (pid 991,
                        user kim, LISTEN on 127.0.0.1:8082)
       3  web-frontend  still there 20 s after SIGTERM; SIGKILL ended it
       2  docs          still there after 10 s; SIGTERM ended it
       -  8083          12 connections in TIME_WAIT for 41 s

    Exit code 4: a port is still in use
    Proof: waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD
    Contained by: subreaper (no cgroup: mcpd runs in the root cgroup, which is not
                  delegated)
    6 checks passed; see --json for the evidence
    ");
}

#[test]
fn a_report_at_200_columns() {
    insta::assert_snapshot!(shown(200), @r"
    Shutdown of run 20261122T130501Z-3f9a2c77
      Reason    manual
      When      2026-11-22 14:00:00 to 2026-11-22 14:00:30 (30.0 s)

    Phases
    PHASE              OUTCOME      TOOK  LIMIT
    initiated          done         0 ms    0 s
    workers-graceful   timed out  10.0 s   10 s
    clients            done         1 ms   30 s
    workers-terminate  findings   20.0 s   20 s
    verification       findings    12 ms   15 s
    exit               done         3 ms    1 s

    Workers
    WORKER         PID  ASKED  ANSWER  ENDED                     AFTER  DESCENDANTS  OUTLIVED  CHECKS
    alpha         4711  POST   202     exit 0                    12 ms            0         0  2 ok
    docs          4711  POST   202     after SIGTERM: exit 143  10.0 s            0         0  2 ok
    web-frontend  4711  POST   202     by SIGKILL               30.0 s            2         1  failed: port
      web-frontend, port: port 8082 is held by python3 (pid 991, user kim)
      web-frontend, outlived the main process: node server.js (pid 4720, kim)

    Clients
    2 connected, 0 notified, 1 disconnected, 1 closed by force
    WORKER  ADDRESS          CLIENT                  DISCONNECTED AFTER
    alpha   127.0.0.1:40312  claude (pid 3001, kim)                4 ms
    alpha   127.0.0.1:40313  -                                   forced

    Ports
    PORT  WORKER  STATE             HELD BY
    8082  docs    in use            python3 -m http.server 8082 (pid 991, kim, LISTEN 127.0.0.1:8082); python3 -m http.server 8082 (unknown pid, root, LISTEN 127.0.0.1:8082)
    8083  -       free (TIME_WAIT)  -
    8084  -       free              -

    Resources
    RESOURCE  CLOSED   TOOK  ERROR
    cache     failed  31 ms  close: exit 1
    journal   ok       2 ms  -

    Daemon process
    file descriptors: 12 at the start, 13 at the end; threads: 4 at the start, 4 at the end
      still open: 17: /tmp/x

    Findings
    CODE  FOUND         WHAT
       4  8082          port 8082 is held by python3 -m http.server 8082 (pid 991, user kim, LISTEN on 127.0.0.1:8082)
       3  web-frontend  still there 20 s after SIGTERM; SIGKILL ended it
       2  docs          still there after 10 s; SIGTERM ended it
       -  8083          12 connections in TIME_WAIT for 41 s

    Exit code 4: a port is still in use
    Proof: waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD
    Contained by: subreaper (no cgroup: mcpd runs in the root cgroup, which is not delegated)
    6 checks passed; see --json for the evidence
    ");
}

/// R-LOG-2: `report --json` prints the content of the file, also without a journal.
#[test]
fn the_report_file_is_found_without_a_journal() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = StateDir::new(dir.path());
    assert_eq!(find(&state, None), Ok(None));
    let report = test_data::report();
    fs::write(state.last_shutdown(), serde_json::to_vec(&report).expect("plain")).expect("written");
    assert_eq!(find(&state, None), Ok(Some(report.clone())));
    assert_eq!(find(&state, Some(report.run)), Ok(Some(report)));
    let other: RunId = "20201122T130501Z-00000001".parse().expect("a run");
    assert_eq!(find(&state, Some(other)), Ok(None));
    let failure = missing(Some(other), &StateDir::new("/state"));
    insta::assert_snapshot!(failure, @r"
    mcpctl: can't show the report
      there is no report of run 20201122T130501Z-00000001 in /state
      run `mcpctl history` to list the runs; a run that has not ended or that crashed has no report
    ");
}
