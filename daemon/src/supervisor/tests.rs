//! The real supervisor in a scripted world: what it does, when, and in which order.

mod life;
mod stopping;
