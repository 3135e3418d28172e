//! What may be written and what may not: machines as text, generated device graphs, real loop devices.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot set its stage has failed"
)]

mod burns;
mod cards;
mod fakes;
mod fixtures;
mod graphs;
mod liar;
mod loops;
mod stage;
