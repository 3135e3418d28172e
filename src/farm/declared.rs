//! Who may read a file on the card, and to whom it belongs, as the farm's owner declares it: in the long form of a file
//! and in `overlay.toml`. What nobody declares is 0644 or 0755 and root's, whatever its mode is on this computer: that
//! mode depends on the umask under which a repository was checked out.

use crate::edit::tree::{Access, Privacy};

/// What is declared of a file or folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Permission bits.
    pub mode: Option<u16>,
    /// User and group, as numbers.
    pub owner: Option<(u32, u32)>,
    /// Nothing shows its content, size or digest.
    pub secret: bool,
}

impl Declared {
    /// Mode and owner on the card; `mode` if none is declared. A secret is its owner's alone.
    pub fn access(self, mode: u16) -> Access {
        let mode = if self.secret { mode & 0o700 } else { mode };
        let (uid, gid) = self.owner.unwrap_or_default();
        Access {
            mode: self.mode.unwrap_or(mode),
            uid,
            gid,
        }
    }

    /// Whether plans and manifests may show a file with the mode `mode`: on the card everybody may read them.
    pub fn privacy(self, mode: u16) -> Privacy {
        Privacy::secret_if(self.secret || mode & OTHERS_MAY_READ == 0)
    }

    /// Why it cannot be.
    pub fn contradiction(self) -> Option<String> {
        let mode = self
            .mode
            .filter(|mode| self.secret && mode & OTHERS_MAY_READ != 0)?;
        Some(format!(
            "it is secret, and its mode {mode:04o} lets everybody read it"
        ))
    }
}

const OTHERS_MAY_READ: u16 = 0o004;

/// Permission bits: three or four octal digits.
///
/// # Errors
/// Why `text` is not such a mode.
pub fn mode(text: &str) -> Result<u16, String> {
    let fine = matches!(text.len(), 3 | 4) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    fine.then(|| u16::from_str_radix(text, 8).ok())
        .flatten()
        .ok_or_else(|| format!("the mode {text:?} is not three or four octal digits such as \"0755\""))
}

/// A user and a group, `33:33`, or a user alone, whose group then has the same number. Names mean other numbers on other
/// systems, except for root's.
///
/// # Errors
/// Why `text` does not name them.
pub fn owner(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    let number = |name: &str| match name {
        "root" => Some(0),
        // The highest number means "none" to chown(2).
        digits => digits.parse().ok().filter(|number| *number != u32::MAX),
    };
    match (number(user), number(group)) {
        (Some(user), Some(group)) => Ok((user, group)),
        _ => Err(format!(
            "the owner {text:?} is neither root nor two numbers such as \"33:33\" (www-data of Debian and Ubuntu)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_owners() {
        assert_eq!(
            (mode("0600"), mode("755"), mode("4755")),
            (Ok(0o600), Ok(0o755), Ok(0o4755))
        );
        for bad in ["", "0", "0o755", "788", "00755", "u=rw", "-755"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (owner("root"), owner("root:root"), owner("33:8")),
            (Ok((0, 0)), Ok((0, 0)), Ok((33, 8)))
        );
        assert_eq!(owner("1000"), Ok((1000, 1000)));
        for bad in [
            "",
            ":",
            "craig",
            "root:",
            "1:2:3",
            "-1",
            "4294967295",
            "4294967296",
        ] {
            assert!(owner(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_not_everybody_may_read_is_private() {
        let check = |declared: Declared, mode: u16, privacy: Privacy| {
            let access = declared.access(0o644);
            assert_eq!(
                (access.mode, declared.privacy(access.mode)),
                (mode, privacy),
                "{declared:?}"
            );
        };
        let declared = |mode: Option<u16>, secret: bool| Declared {
            mode,
            secret,
            owner: None,
        };
        check(declared(None, false), 0o644, Privacy::Public);
        check(declared(None, true), 0o600, Privacy::Secret);
        check(declared(Some(0o600), false), 0o600, Privacy::Secret);
        check(declared(Some(0o640), false), 0o640, Privacy::Secret);
        check(declared(Some(0o755), false), 0o755, Privacy::Public);
        assert_eq!(declared(Some(0o640), true).contradiction(), None);
        assert!(declared(Some(0o644), true).contradiction().is_some());
    }
}
