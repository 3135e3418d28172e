//! What palmfarm asks of the operating system that it runs on: files, locks, free space, networks, mounts, who started
//! it; block devices belong to `card`. Support for another system would be added here, since no other room names the
//! system. It decides nothing about farms, images or cards.

#![expect(
    clippy::disallowed_methods,
    reason = "the other rooms open and make files through this one"
)]

pub mod atomic_file;
pub(crate) mod bounded_read;
pub(crate) mod browser;
pub mod computer;
pub mod files;
pub mod filesystem;
pub mod folder;
pub(crate) mod host_names;
pub mod interfaces;
pub(crate) mod interruption;

pub(crate) mod locks;
pub mod neighbours;
mod netlink;
pub(crate) mod positional;
pub mod privileges;
pub(crate) mod random;
pub(crate) mod routes;
pub mod ssh;
mod sys;
pub(crate) mod terminal;
pub(crate) mod unmount;
