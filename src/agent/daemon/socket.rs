//! Where a container daemon listens: each way of installing it has its own socket.

use std::env;
use std::path::{Path, PathBuf};

use palmfarm_protocol::firstboot::Flavour;

/// Where the daemon of LXD's snap listens, without the leading slash.
pub(super) const SNAP: &str = "var/snap/lxd/common/lxd/unix.socket";

/// The socket of `flavour`'s daemon below `root`, if it exists. `LXD_SOCKET` and `INCUS_SOCKET` override it, as they do
/// for `lxc` and `incus`.
pub(crate) fn find_socket(root: &Path, flavour: Flavour) -> Option<PathBuf> {
    let (variable, places): (_, &[&str]) = match flavour {
        // The deb's first: if both are installed, the deb of Ubuntu 18.04 has not been migrated to the snap.
        Flavour::Lxd => ("LXD_SOCKET", &["var/lib/lxd/unix.socket", SNAP]),
        Flavour::Incus => ("INCUS_SOCKET", &["var/lib/incus/unix.socket"]),
    };
    if let Some(socket) = env::var_os(variable) {
        return Some(socket.into());
    }
    let mut places = places.iter().map(|place| root.join(place));
    places.find(|socket| socket.exists())
}
