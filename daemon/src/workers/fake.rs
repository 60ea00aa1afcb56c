//! A scripted world behind `Processes`, on tokio's (paused) clock: no process, no waiting.
