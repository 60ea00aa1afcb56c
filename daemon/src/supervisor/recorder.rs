//! Records starts and exits of workers in the journal (R-LOG-1).

use jiff::Timestamp;
use mcpd_common::config::WorkerConfig;
use mcpd_common::ids::{Pgid, RunId, WorkerName};
use mcpd_common::journal::{ProcessEnded, ProcessStarted, Record, Restarted};
use mcpd_common::outcome::ExitStatus;

use crate::journal::JournalHandle;
use crate::process::operations::Started;

pub struct Recorder {
    pub run: RunId,
    pub journal: JournalHandle,
}

impl Recorder {
    pub fn started(&self, worker: &WorkerConfig, started: Started) {
        self.journal.record(Record::ProcessStarted(ProcessStarted {
            run: self.run,
            worker: worker.name.clone(),
            pid: started.pid,
            start_time: started.start,
            pgid: Pgid::led_by(started.pid),
            port: worker.port,
            started_at: Timestamp::now(),
        }));
    }

    /// The leader exited and its family is gone.
    pub fn ended(&self, started: Started, exit: Option<ExitStatus>) {
        self.journal.record(Record::ProcessEnded(ProcessEnded {
            run: self.run,
            pid: started.pid,
            start_time: started.start,
            ended_at: Timestamp::now(),
            exit,
        }));
    }

    pub fn restarted(&self, worker: &WorkerName, reason: &str) {
        self.journal.record(Record::Restarted(Restarted {
            run: self.run,
            worker: worker.clone(),
            at: Timestamp::now(),
            reason: reason.to_owned(),
        }));
    }
}
