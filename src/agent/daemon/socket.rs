//! Where a container daemon listens: each way of installing it has a place of its own.

use std::env;
use std::path::{Path, PathBuf};

use palmfarm_protocol::firstboot::Flavour;

/// How the daemon was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its socket.
    pub socket: PathBuf,
    /// Whether it is the snap, which refreshes and restarts by itself.
    pub snap: bool,
}

/// The socket of `flavour`'s daemon below `root`, or `None` where there is none. `LXD_SOCKET` and
/// `INCUS_SOCKET` win, as they do for `lxc` and `incus`.
#[must_use]
pub fn find_socket(root: &Path, flavour: Flavour) -> Option<Found> {
    let (variable, places): (_, &[(&str, bool)]) = match flavour {
        // The deb's first: where both are installed, the deb of Ubuntu 18.04 has not been migrated.
        Flavour::Lxd => (
            "LXD_SOCKET",
            &[
                ("var/lib/lxd/unix.socket", false),
                ("var/snap/lxd/common/lxd/unix.socket", true),
            ],
        ),
        Flavour::Incus => ("INCUS_SOCKET", &[("var/lib/incus/unix.socket", false)]),
    };
    if let Some(socket) = env::var_os(variable) {
        return Some(Found {
            socket: socket.into(),
            snap: false,
        });
    }
    let mut found = places.iter().map(|(place, snap)| Found {
        socket: root.join(place),
        snap: *snap,
    });
    found.find(|found| found.socket.exists())
}
