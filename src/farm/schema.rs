//! The JSON Schema of `farm.yaml`, for editors. `decode` and `check` decide; the schema must take every farm that they
//! take, and no key that they do not know. The tests hold each farm of theirs against both.

/// Draft 7, which editors know best.
pub const SCHEMA: &str = include_str!("schema.json");
