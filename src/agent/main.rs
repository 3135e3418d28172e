//! The agent's command line; everything else is in the library beside it.

fn main() {}
