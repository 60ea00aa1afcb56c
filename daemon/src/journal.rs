//! The journal's one writer: a thread behind a queue (R-LOG-1, R-LOG-5).
//!
//! ```text
//! record() --queue, at most 10 000--> thread "journal" --transactions--> SQLite
//! ```
//!
//! Recording never waits and never fails: a slow disk fills the queue, a full one loses entries,
//! and lost entries are counted and logged once. Only closing waits, until its deadline.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use mcpd_common::journal::{Journal, JournalError, KeptSession, Opened, Record};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::deadline::{self, Deadline};
use crate::warnings::Warnings;

/// Limit of queued records; 500 workers that crash-loop for a minute make fewer.
const QUEUE_LIMIT: usize = 10_000;

/// Records in one transaction.
const BATCH: usize = 256;

/// Records entries in the journal. Cloning it is cheap.
#[derive(Clone)]
pub struct JournalHandle {
    /// `None` if no journal could be opened: entries are dropped.
    writer: Option<Arc<Writer>>,
}

struct Writer {
    queue: Sender<JournalMessage>,
    state: Arc<State>,
}

/// Shared by both ends of the queue.
#[derive(Default)]
struct State {
    waiting: AtomicUsize,
    lost: AtomicU64,
    closed: AtomicBool,
    warnings: Warnings,
}

enum JournalMessage {
    Remember(Record),
    Close(oneshot::Sender<Result<(), JournalError>>),
}

/// Why the journal could not be closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The database failed.
    #[error(transparent)]
    Failed(#[from] JournalError),
    /// The disk is too slow.
    #[error("the journal could not be written and closed in time")]
    NotInTime,
    /// The journal's thread has ended.
    #[error("the journal's thread ended early")]
    WriterGone,
}

impl JournalHandle {
    /// Opens the journal, writes the `first` records and starts its thread. There is always a
    /// handle; the other results are the sessions of the last daemon, and warnings about what
    /// does not work; what fails later is added to `warnings_later`. `remembered` is called when `first` is in the journal.
    pub fn open(
        path: &Path,
        first: &[Record],
        warnings_later: &Warnings,
        remembered: impl FnOnce(),
    ) -> (Self, Vec<KeptSession>, Vec<String>) {
        let Opened { mut journal, warning } = match Journal::open(path) {
            Ok(opened) => opened,
            Err(error) => {
                let warning = format!("{error}; this run will not be in the history");
                return (Self::none(), vec![], vec![warning]);
            }
        };
        let mut warnings: Vec<_> = warning.into_iter().collect();
        match journal.record_all(first) {
            Ok(()) => remembered(),
            Err(error) => warnings.push(format!("{error}; how the last run ended is not in the history yet")),
        }
        let kept = journal.sessions().unwrap_or_else(|error| {
            warnings.push(format!("{error}; clients of the last run have to begin anew"));
            vec![]
        });
        match Writer::start(journal, warnings_later.clone()) {
            Ok(writer) => (Self { writer: Some(Arc::new(writer)) }, kept, warnings),
            Err(error) => {
                warnings.push(format!("the journal's thread can't be started: {error}"));
                (Self::none(), kept, warnings)
            }
        }
    }

    /// A handle that drops all entries.
    pub fn none() -> Self {
        Self { writer: None }
    }

    /// Queues an entry.
    pub fn record(&self, record: Record) {
        if let Some(writer) = &self.writer {
            writer.remember(record);
        }
    }

    /// Writes the queued entries and closes the journal. Later entries are dropped; closing again
    /// does nothing.
    pub async fn close(&self, deadline: Deadline) -> Result<(), CloseError> {
        match &self.writer {
            Some(writer) => writer.close(deadline).await,
            None => Ok(()),
        }
    }
}

impl Writer {
    fn start(journal: Journal, warnings: Warnings) -> std::io::Result<Self> {
        let (queue, orders) = mpsc::channel();
        let state = Arc::new(State { warnings, ..State::default() });
        let shared = Arc::clone(&state);
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_all(journal, &orders, &shared))?;
        Ok(Self { queue, state })
    }

    fn remember(&self, record: Record) {
        // There is one report in a run, and it must never be lost: it always fits.
        let must_fit = matches!(record, Record::Report(_));
        let waiting = self.state.waiting.fetch_add(1, Ordering::Relaxed);
        let fits = must_fit || waiting < QUEUE_LIMIT;
        if !fits || self.queue.send(JournalMessage::Remember(record)).is_err() {
            self.state.waiting.fetch_sub(1, Ordering::Relaxed);
            if !self.state.closed.load(Ordering::Relaxed) {
                self.state.lose(1, "its queue is full");
            }
        }
    }

    async fn close(&self, deadline: Deadline) -> Result<(), CloseError> {
        if self.state.closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let (answer, closed) = oneshot::channel();
        self.queue.send(JournalMessage::Close(answer)).map_err(|_| CloseError::WriterGone)?;
        match deadline.wait(closed).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => Err(CloseError::WriterGone),
            Err(_) => Err(CloseError::NotInTime),
        }
    }
}

impl State {
    /// Logged at the first loss only: a full disk would otherwise fill the log as well.
    fn lose(&self, count: usize, why: &str) {
        let before = self.lost.fetch_add(count as u64, Ordering::Relaxed);
        if before == 0 {
            tracing::warn!(why, "the journal loses entries; work and shutdown go on");
            self.warnings.add(format!("the journal loses entries: {why}"));
        }
    }
}

/// Between two deletions of old entries.
const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// When old entries are deleted next. Entries that are recorded meanwhile do not delay it.
struct PruneSchedule {
    next: Instant,
}

impl PruneSchedule {
    /// For a journal that was just opened, which deletes old entries too.
    fn new(now: Instant) -> Self {
        Self { next: now + PRUNE_INTERVAL }
    }

    fn wait(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Whether it is time; then the next time is a day later.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + PRUNE_INTERVAL;
        }
        is_due
    }
}

fn write_all(journal: Journal, orders: &Receiver<JournalMessage>, state: &State) {
    let mut file = JournalFile { journal, run: None, state };
    let mut schedule = PruneSchedule::new(deadline::now());
    let answer = loop {
        if schedule.is_due(deadline::now())
            && let Err(error) = file.journal.prune()
        {
            tracing::warn!(%error, "old entries of the journal were not deleted");
        }
        match orders.recv_timeout(schedule.wait(deadline::now())) {
            Ok(JournalMessage::Remember(first)) => {
                let (batch, close) = gather(first, orders);
                file.write(&batch);
                if close.is_some() {
                    break close;
                }
            }
            Ok(JournalMessage::Close(answer)) => break Some(answer),
            Err(RecvTimeoutError::Timeout) => {}
            // The last handle was dropped without closing.
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    let lost = state.lost.load(Ordering::Relaxed);
    if lost > 0 {
        tracing::warn!(lost, "entries the journal has lost in this run");
    }
    let result = file.journal.close();
    match answer {
        // The caller may have stopped waiting.
        Some(answer) => drop(answer.send(result)),
        None => result.unwrap_or_else(|error| tracing::warn!(%error, "the journal was not closed")),
    }
}

/// The journal on disk.
struct JournalFile<'a> {
    journal: Journal,
    /// The start of this run, for a journal that is made anew.
    run: Option<Record>,
    state: &'a State,
}

impl JournalFile<'_> {
    fn write(&mut self, batch: &[Record]) {
        if self.journal.is_removed() {
            self.make_anew();
        }
        if let Err(error) = self.journal.record_all(batch) {
            self.state.lose(batch.len(), &error.to_string());
        }
        let start = batch.iter().rfind(|record| matches!(record, Record::RunStarted(_)));
        self.run = start.cloned().or(self.run.take());
        self.state.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
    }

    /// The state directory or the file was removed.
    fn make_anew(&mut self) {
        let path = self.journal.path().to_owned();
        let text = format!("the journal {} was removed: the history before is lost", path.display());
        tracing::warn!("{text}");
        self.state.warnings.add(text);
        match Journal::open(&path) {
            Ok(opened) => {
                self.journal = opened.journal;
                if let Err(error) = self.journal.record_all(self.run.as_slice()) {
                    self.state.lose(1, &error.to_string());
                }
            }
            Err(error) => self.state.lose(0, &error.to_string()),
        }
    }
}

type CloseReply = oneshot::Sender<Result<(), JournalError>>;

/// The record and those queued behind it, up to a request to close.
fn gather(first: Record, orders: &Receiver<JournalMessage>) -> (Vec<Record>, Option<CloseReply>) {
    let mut batch = vec![first];
    while batch.len() < BATCH {
        match orders.try_recv() {
            Ok(JournalMessage::Remember(record)) => batch.push(record),
            Ok(JournalMessage::Close(answer)) => return (batch, Some(answer)),
            Err(_) => break,
        }
    }
    (batch, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use mcpd_common::ids::{Pid, RunId, RunTag};
    use mcpd_common::journal::{Restarted, RunStarted};

    fn run() -> RunId {
        RunId::new(Timestamp::UNIX_EPOCH + Duration::from_secs(4_000_000_000), RunTag(7))
    }

    fn started() -> Record {
        Record::RunStarted(RunStarted {
            run: run(),
            pid: Pid::current(),
            version: "0.1.0".to_owned(),
            config: None,
            started_at: run().began(),
        })
    }

    fn restarted() -> Record {
        let worker = "a".parse().expect("a name");
        Record::Restarted(Restarted { run: run(), worker, at: run().began(), reason: "exit 1".to_owned() })
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    /// R-LOG-1: everything that was recorded before closing is in the journal.
    #[tokio::test]
    async fn all_that_waits_is_written_before_closing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("journal.sqlite3");
        let (journal, _, warnings) = JournalHandle::open(&path, &[], &Warnings::default(), || ());
        assert!(warnings.is_empty(), "{warnings:?}");
        journal.record(started());
        for _ in 0..1000 {
            journal.clone().record(restarted());
        }
        journal.close(soon()).await.expect("closed");
        journal.record(restarted());
        journal.close(soon()).await.expect("idempotent");
        let rows = Journal::open_read_only(&path).expect("readable").history(1).expect("readable");
        assert_eq!((rows[0].run, rows[0].restarts), (run(), 1000));
    }

    /// A removed state directory: the run is in the new journal, and the user is told.
    #[tokio::test]
    async fn a_removed_journal_is_made_anew() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let state = dir.path().join("state");
        let path = state.join("journal.sqlite3");
        let warnings = Warnings::default();
        let (journal, _, _) = JournalHandle::open(&path, &[], &warnings, || ());
        journal.record(started());
        let writer = journal.writer.clone().expect("a writer");
        let waiting = || writer.state.waiting.load(Ordering::Relaxed);
        let limit = soon();
        while waiting() > 0 && !limit.remaining().is_zero() {
            deadline::until(deadline::now() + Duration::from_millis(5)).await;
        }
        std::fs::remove_dir_all(&state).expect("removed");
        journal.record(restarted());
        journal.close(soon()).await.expect("closed");
        let rows = Journal::open_read_only(&path).expect("readable").history(1).expect("readable");
        assert_eq!((rows[0].run, rows[0].restarts), (run(), 1));
        assert!(warnings.all()[0].contains("was removed"), "{:?}", warnings.all());
    }

    /// Also on a day on which entries are recorded all the time.
    #[test]
    fn old_entries_are_deleted_once_a_day() {
        let hour = Duration::from_secs(60 * 60);
        let opened = deadline::now();
        let mut schedule = PruneSchedule::new(opened);
        let due: Vec<_> = (1..=72).filter(|hours| schedule.is_due(opened + hour * *hours)).collect();
        assert_eq!(due, [24, 48, 72]);
        assert_eq!(schedule.wait(opened + 95 * hour), hour);
        assert!(schedule.is_due(opened + 100 * hour), "the machine slept");
        assert_eq!(schedule.wait(opened + 100 * hour), PRUNE_INTERVAL);
    }

    /// R-LOG-5.
    #[tokio::test]
    async fn without_a_place_to_write_everything_goes_on() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        let (journal, _, warnings) =
            JournalHandle::open(&file.join("journal.sqlite3"), &[started()], &Warnings::default(), || {
                panic!("not remembered")
            });
        assert_eq!(warnings.len(), 1);
        journal.record(started());
        journal.close(soon()).await.expect("nothing to close");
    }

    /// R-LOG-5: no caller waits for a disk that does not answer.
    #[tokio::test]
    async fn a_writer_that_hangs_costs_entries_and_no_time() {
        let (queue, orders) = mpsc::channel();
        let writer = Writer { queue, state: Arc::default() };
        let journal = JournalHandle { writer: Some(Arc::new(writer)) };
        for _ in 0..QUEUE_LIMIT + 5 {
            journal.record(restarted());
        }
        let lost = journal.writer.as_ref().map(|writer| writer.state.lost.load(Ordering::Relaxed));
        assert_eq!(lost, Some(5));
        let result = journal.close(Deadline::after(Duration::from_millis(20))).await;
        assert!(matches!(result, Err(CloseError::NotInTime)), "{result:?}");
        drop(orders);
    }
}
