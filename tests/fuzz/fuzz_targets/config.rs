//! Any text is a valid configuration or a list of problems; nothing panics, and every problem has a text.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use mcpd_common::config::{Source, peek};

fuzz_target!(|text: &str| {
    let source =
        Source::Text { name: "fuzzed".into(), text: text.into(), base: PathBuf::from("/nonexistent") };
    match peek(source, &|_| None) {
        Ok(loaded) => {
            let shown: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
            assert!(shown.iter().all(|problem| !problem.is_empty()));
            // Deadlines are sums of these.
            let shutdown = &loaded.config.shutdown;
            assert!(shutdown.worker_graceful <= shutdown.worker_total, "{shutdown:?}");
            assert!(shutdown.clients.checked_add(shutdown.worker_total).is_some());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
