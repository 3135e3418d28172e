//! The base: Ubuntu's image, found or downloaded, verified, opened, and surveyed. It never writes to the image, and never
//! passes on a byte that was not verified.

pub mod debian;
pub mod download;
mod facts;
pub mod layout;
pub mod locate;
pub mod mini;
pub mod mounts;
mod refusal;
pub mod source;
pub mod survey;

pub use facts::*;
pub use refusal::{BaseRefusal, BaseRefusals, FstabFault};
