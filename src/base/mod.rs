//! The base: Ubuntu's image, found or downloaded, verified, opened, and surveyed. It only reads it, and hands no byte on
//! that was not verified.

pub mod download;
mod facts;
pub mod layout;
pub mod locate;
pub mod mini;
pub mod source;
pub mod survey;

pub use facts::*;
