//! The built-in base: a tiny image in the layout of Ubuntu 22.04 for armhf, for a first try, tests and demos. It
//! boots on no board. `cargo xtask mini` builds it, and a test there rebuilds it and compares.

/// The image, as .xz in blocks of 1 MiB.
pub static MINI: &[u8] = include_bytes!("mini/mini.img.xz");
