//! The first-boot agent.

pub mod daemon;
