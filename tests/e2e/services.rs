//! mcpd as a service: the directories and messages of systemd, the journal, and `mcpctl service` (R-SVC).

mod directories;
mod journal;
mod notify;
