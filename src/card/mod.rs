//! The card: what the machine says about its disks, the rules that refuse all but cards, and the one descriptor
//! through which a card is written.
//!
//! The way is `Snapshot → Facts → refusals → ApprovedCard → OpenCard`. Nothing here unmounts, detaches or stops
//! anything for the user, and nothing outside `open` opens a block device.

pub mod facts;
mod refusal;
mod rules;
mod text;

pub use facts::{Facts, FileRole, Snapshot, Target};
pub use refusal::{explain, Allow, Allowed, NotAllowable, Refusal};
pub use rules::{approve, candidates, refusals, target_of, ApprovedCard, Identity, LARGE};
pub use text::{printable, shell_quote, size_text};
