//! The first-boot agent.

pub mod daemon;
pub mod farm;
