//! What the workstation and the Pi agree on.
