//! palmfarm.
