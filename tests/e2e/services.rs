//! mcpd as a service: the directories and messages of systemd, the journal, and `mcpctl service` (R-SVC).

mod cgroup;
mod directories;
mod install;
mod journal;
mod launchd;
mod notify;
mod standin;
