//! The real supervisor on a fake system: what it does, when, and in which order.

mod life;
mod sessions;
mod stopping;
