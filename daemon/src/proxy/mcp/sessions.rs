//! The sessions of one listener, by the id that the client knows (R-CLIENT-3).
//!
//! Kept for 24 h after their last use, in memory and in the journal, so that they outlive the daemon
//! as well, and bounded in number: clients that never end their sessions must
//! not make the daemon's memory grow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::ids::WorkerName;
use mcpd_common::journal::{KeptSession, Record, SESSIONS_KEPT};
use tokio::time::Instant;

use super::session::Session;
use crate::deadline;
use crate::journal::JournalHandle;

/// How long an unused session is kept.
const KEPT: Duration = SESSIONS_KEPT.unsigned_abs();
/// Sessions kept for each worker; the least recently used one is dropped first.
const MOST: usize = 4096;
/// Interval of updating the time of last use in the journal.
const NOTED: Duration = Duration::from_secs(60 * 60);

/// A session that several requests may use at once.
pub type SharedSession = Arc<SessionCell>;

pub struct SessionCell {
    state: Mutex<Session>,
    /// Held by who replays the session to a new worker.
    pub replaying: tokio::sync::Mutex<()>,
}

impl SessionCell {
    fn new(session: Session) -> SharedSession {
        Arc::new(Self { state: Mutex::new(session), replaying: tokio::sync::Mutex::default() })
    }

    /// Never held while waiting for anything.
    pub fn lock(&self) -> MutexGuard<'_, Session> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Sessions {
    worker: WorkerName,
    journal: JournalHandle,
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    session: SharedSession,
    used: Instant,
    noted: Instant,
}

impl Sessions {
    /// The sessions of this worker that an earlier daemon kept.
    pub fn new(worker: WorkerName, journal: JournalHandle, kept: &[KeptSession]) -> Self {
        let mut of_worker: Vec<_> = kept.iter().filter(|kept| kept.worker == worker).collect();
        of_worker.sort_by_key(|kept| std::cmp::Reverse(kept.used_at));
        let known = of_worker.into_iter().take(MOST).filter_map(restored).collect();
        Self { worker, journal, known: Mutex::new(known) }
    }

    pub fn get(&self, id: &str) -> Option<SharedSession> {
        let mut known = self.known();
        let now = deadline::now();
        let found = known.get_mut(id)?;
        if now.saturating_duration_since(found.used) >= KEPT {
            known.remove(id);
            return None;
        }
        found.used = now;
        if now.saturating_duration_since(found.noted) >= NOTED {
            found.noted = now;
            self.save(&found.session.lock());
        }
        Some(found.session.clone())
    }

    /// Stores a new session.
    pub fn keep(&self, session: Session) -> SharedSession {
        self.save(&session);
        let id = session.id.clone();
        let now = deadline::now();
        let session = SessionCell::new(session);
        let mut known = self.known();
        for id in make_room(&mut known, now) {
            self.end(id);
        }
        known.insert(id, Known { session: session.clone(), used: now, noted: now });
        session
    }

    /// Stores the changed session in the journal.
    pub fn save(&self, session: &Session) {
        // A session is plain data, so it can always be serialized.
        let Ok(json) = serde_json::to_string(session) else { return };
        let worker = self.worker.clone();
        let id = session.id.clone();
        let kept = KeptSession { worker, id, used_at: Timestamp::now(), session: json };
        self.journal.record(Record::SessionKept(kept));
    }

    /// Removes a session that has ended.
    pub fn forget(&self, id: &str) {
        self.known().remove(id);
        self.end(id.to_owned());
    }

    /// A session and when a request last used it; this is no use.
    pub fn look_at(&self, id: &str) -> Option<(SharedSession, Instant)> {
        self.known().get(id).map(|known| (known.session.clone(), known.used))
    }

    /// Removes a session that has ended, unless a request has used it since then. Returns whether it did.
    pub fn forget_if_unused_since(&self, id: &str, moment: Instant) -> bool {
        let mut known = self.known();
        let is_unused = known.get(id).is_some_and(|known| known.used <= moment);
        if is_unused {
            known.remove(id);
            self.end(id.to_owned());
        }
        is_unused
    }

    fn end(&self, id: String) {
        self.journal.record(Record::SessionEnded { worker: self.worker.clone(), id });
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session in another version's format is dropped: its client initializes again, as without mcpd.
fn restored(kept: &KeptSession) -> Option<(String, Known)> {
    let session: Session = serde_json::from_str(&kept.session).ok()?;
    let (now, unused) = (deadline::now(), Timestamp::now().duration_since(kept.used_at));
    let used = now.checked_sub(unused.try_into().unwrap_or_default()).unwrap_or(now);
    let session = SessionCell::new(session);
    Some((kept.id.clone(), Known { session, used, noted: used }))
}

/// Returns the ids of the dropped sessions.
fn make_room(known: &mut HashMap<String, Known>, now: Instant) -> Vec<String> {
    if known.len() < MOST {
        return vec![];
    }
    let old = |known: &Known| now.saturating_duration_since(known.used) >= KEPT;
    let mut gone: Vec<_> = known.extract_if(|_, known| old(known)).map(|(id, _)| id).collect();
    if known.len() >= MOST {
        let oldest = known.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone());
        gone.extend(oldest.inspect(|id| drop(known.remove(id))));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warnings::Warnings;
    use serde_json::json;

    fn sessions(journal: JournalHandle, kept: &[KeptSession]) -> Sessions {
        Sessions::new("docs".parse().expect("a name"), journal, kept)
    }

    fn session(id: impl ToString) -> Session {
        Session::begin(id.to_string(), "/mcp".into(), "w".into(), 1, json!({}))
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_session_makes_room() {
        let sessions = sessions(JournalHandle::none(), &[]);
        for number in 0..MOST {
            sessions.keep(session(number));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(sessions.get("0").is_some(), "used again, so another one is older");
        tokio::time::advance(Duration::from_millis(1)).await;
        sessions.keep(session("new"));
        assert!(sessions.get("0").is_some() && sessions.get("new").is_some());
        assert!(sessions.get("1").is_none());
        assert_eq!(sessions.known().len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_used_meanwhile_is_not_forgotten() {
        let sessions = sessions(JournalHandle::none(), &[]);
        sessions.keep(session("a"));
        let (_, used) = sessions.look_at("a").expect("kept");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(sessions.look_at("a").map(|(_, used)| used), Some(used), "looking is no use");
        assert!(sessions.get("a").is_some());
        assert!(!sessions.forget_if_unused_since("a", used));
        assert!(sessions.forget_if_unused_since("a", deadline::now()));
        assert!(sessions.look_at("a").is_none() && !sessions.forget_if_unused_since("a", deadline::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_unused_for_a_day_are_dropped_together() {
        let sessions = sessions(JournalHandle::none(), &[]);
        for number in 0..MOST {
            sessions.keep(session(number));
        }
        tokio::time::advance(KEPT).await;
        assert!(sessions.get("0").is_none());
        for new in ["one", "another"] {
            sessions.keep(session(new));
        }
        assert_eq!(sessions.known().len(), 2);
    }

    /// A restart does not lift the bound: the most recently used sessions are restored.
    #[tokio::test]
    async fn restored_sessions_are_bounded() {
        let kept = |number: usize| KeptSession {
            worker: "docs".parse().expect("a name"),
            id: number.to_string(),
            used_at: Timestamp::now() - Duration::from_secs(u64::try_from(number).expect("small")),
            session: serde_json::to_string(&session(number)).expect("plain data"),
        };
        let kept: Vec<_> = (0..MOST + 100).map(kept).collect();
        let sessions = sessions(JournalHandle::none(), &kept);
        assert_eq!(sessions.known().len(), MOST);
        assert!(sessions.get("0").is_some() && sessions.get(&(MOST + 50).to_string()).is_none());
    }

    /// The next daemon restores what the journal has; entries of other workers, or that it can't
    /// read, do no harm.
    #[tokio::test]
    async fn sessions_outlive_the_daemon() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("journal.sqlite3");
        let soon = || crate::deadline::Deadline::after(Duration::from_secs(20));
        let (journal, _, _) = JournalHandle::open(&path, &[], &Warnings::default(), || ());
        let first = sessions(journal.clone(), &[]);
        let mut changed = session("a");
        first.keep(changed.clone());
        first.keep(session("b"));
        first.forget("b");
        changed.note(&json!({ "method": "logging/setLevel", "params": { "level": "debug" } }));
        first.save(&changed);
        journal.close(soon()).await.expect("closed");

        let (journal, mut kept, _) = JournalHandle::open(&path, &[], &Warnings::default(), || ());
        kept.push(KeptSession { id: "c".into(), session: "[]".into(), ..kept[0].clone() });
        let second = sessions(journal.clone(), &kept);
        let found = second.get("a").expect("kept");
        assert_eq!(*found.lock(), changed);
        assert!(second.get("b").is_none() && second.get("c").is_none());
        let other = Sessions::new("other".parse().expect("a name"), journal.clone(), &kept);
        assert!(other.get("a").is_none());
        journal.close(soon()).await.expect("closed");
    }
}
