//! What may be written and what may not: machines as text, generated device graphs, real loop devices.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot set its stage has failed"
)]

#[path = "../common/mod.rs"]
mod common;

mod burns;
mod cards;
mod fakes;
mod fixtures;
mod graphs;
mod liar;
mod loops;
mod stacked;
