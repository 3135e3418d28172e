//! What may be written and what may not: machines as text, generated device graphs, real loop devices.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

mod fixtures;
mod graphs;
