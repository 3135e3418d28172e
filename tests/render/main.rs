//! What a card holds, for each generation of base: whole trees against golden files, and the rendered units and network
//! files against systemd itself.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail as tests do"
)]

#[path = "../common/mod.rs"]
mod common;

mod bases;
mod check;
mod contents;
mod document;
mod farms;
mod golden;
mod images;
mod ini;
mod page;
mod parsed;
mod show;
mod units;
mod verdicts;
