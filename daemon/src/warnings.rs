//! What the user should know although the daemon goes on: shown by `mcpctl status`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Cloning it is cheap; all clones are the same list.
#[derive(Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds a warning, once.
    pub fn add(&self, text: String) {
        let mut warnings = self.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub fn all(&self) -> Vec<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
