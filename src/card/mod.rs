//! The card: what the machine says about its disks, the rules that refuse everything but cards, and the one descriptor
//! through which a card is written.
//!
//! The way is `Snapshot → Facts → refusals → ApprovedCard → OpenCard`. Nothing here unmounts, detaches or stops anything
//! (`cli::flash` unmounts what the person says, through `host`), and only `open` and `read_only` open a block device.

mod burn;
mod error;
pub mod facts;
mod medium;
mod open;
mod probe;
mod processes;
mod read_only;
mod readback;
mod refusal;
mod rules;
mod sys;

pub use burn::{wipe_partition_table, CardReport, CardWriter, Touched, Unverified, FIRST_MIB};
pub use error::{BurnError, OpenError};
pub use facts::{CardTarget, Facts, FileRole, Snapshot};
pub use medium::{AlignedBuf, CardIo, Medium, Replaced, TransferError, ALIGN, ALIGN_BYTES};
pub use open::{Ejected, OpenCard};
pub use probe::{probe, Fake, ProbeError, Probed};
pub use read_only::ReadableCard;
pub use readback::ProgressFn;
pub use refusal::{explain, only_mounted, Allow, Allowed, NotAllowable, Refusal};
pub use rules::{approve, candidates, refusals, target_of, ApprovedCard, CardIdentity, LARGE};
