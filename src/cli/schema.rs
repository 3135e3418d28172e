//! `palmfarm schema`: the JSON Schema of farm.yaml.

use super::{written, Ended};
use crate::farm::SCHEMA;

/// Print it.
///
/// # Errors
/// Failed, where standard output cannot be written.
pub fn run() -> Ended {
    written(SCHEMA.as_bytes())
}
