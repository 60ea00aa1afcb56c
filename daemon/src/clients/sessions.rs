//! The sessions of one door, by the id that the client knows (R-CLIENT-3).
//!
//! Kept for 24 h after their last use, and never more than a bound: clients that come and go
//! without ending their sessions must not make the daemon's memory grow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::session::Session;
use crate::deadline;

/// So long a session that nobody uses is remembered.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// So many are remembered; the one that was not used for the longest time goes first.
const MOST: usize = 4096;

/// A session that several requests may use at once.
pub type SharedSession = Arc<tokio::sync::Mutex<Session>>;

/// All of them.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Known>>);

struct Known {
    session: SharedSession,
    used: Instant,
}

impl Sessions {
    /// The session that the client calls by this id.
    pub fn get(&self, id: &str) -> Option<SharedSession> {
        let (mut known, now) = (self.known(), deadline::now());
        let found = known.get_mut(id)?;
        if now.saturating_duration_since(found.used) >= KEPT {
            known.remove(id);
            return None;
        }
        found.used = now;
        Some(found.session.clone())
    }

    /// Remembers a new session.
    pub fn keep(&self, id: String, session: Session) -> SharedSession {
        let (session, used) = (Arc::new(tokio::sync::Mutex::new(session)), deadline::now());
        let mut known = self.known();
        make_room(&mut known, used);
        known.insert(id, Known { session: session.clone(), used });
        session
    }

    /// Forgets a session that has ended.
    pub fn forget(&self, id: &str) {
        self.known().remove(id);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(known: &mut HashMap<String, Known>, now: Instant) {
    if known.len() < MOST {
        return;
    }
    known.retain(|_, session| now.saturating_duration_since(session.used) < KEPT);
    if known.len() >= MOST {
        let oldest = known.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone());
        oldest.map(|id| known.remove(&id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn session() -> Session {
        Session::begin("/mcp".into(), "w".into(), 1, json!({}))
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_session_makes_room() {
        let sessions = Sessions::default();
        for number in 0..MOST {
            sessions.keep(number.to_string(), session());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(sessions.get("0").is_some(), "used again, so another one is older");
        tokio::time::advance(Duration::from_millis(1)).await;
        sessions.keep("new".into(), session());
        assert!(sessions.get("0").is_some() && sessions.get("new").is_some());
        assert!(sessions.get("1").is_none());
        assert_eq!(sessions.known().len(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_nobody_used_for_a_day_go_together() {
        let sessions = Sessions::default();
        for number in 0..MOST {
            sessions.keep(number.to_string(), session());
        }
        tokio::time::advance(KEPT).await;
        assert!(sessions.get("0").is_none());
        for new in ["one", "another"] {
            sessions.keep(new.into(), session());
        }
        assert_eq!(sessions.known().len(), 2);
    }
}
