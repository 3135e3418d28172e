//! What the chores need from the distribution, installed on demand.
