//! A scripted world behind [`ProcessOperations`](crate::process::operations::ProcessOperations) and
//! [`WorkerClient`](super::probe::worker_client::WorkerClient), on tokio's paused clock: no process, no port, no waiting.
//!
//! ```text
//!   script.rs   how one worker behaves
//!   world.rs    the processes of the world, and what was done to them
//!   effects.rs  the two interfaces: signals and requests change the world
//!   scene.rs    supervisor and process thread, the real ones, in such a world
//! ```

mod effects;
pub mod scene;
pub mod script;
pub mod world;
