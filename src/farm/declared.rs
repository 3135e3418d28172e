//! Who may read a file on the card, and to whom it belongs, as the farm's owner declares it: in the long form of a file
//! and in `overlay.toml`. What nobody declares is 0644 or 0755 and root's, whatever its mode is on this computer: that
//! mode depends on the umask under which a repository was checked out. Only a file that must not be open by its very path
//! has another mode (`guarded.rs`).

use super::guarded::{guard, has_private_key};
use crate::edit::tree::{Access, IfThere, Privacy};

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
    /// Mode and owner of a folder on the card; `mode` if none is declared.
    pub fn access(self, mode: u16) -> Access {
        let (uid, gid) = self.owner.unwrap_or_default();
        Access {
            mode: self.mode.unwrap_or(mode),
            uid,
            gid,
        }
    }

    /// Mode and owner of the file with `content` at `path`, and whether plans and manifests may show it: on the card
    /// everybody may read it. Its mode is `usual` if none is declared. A secret is its owner's alone.
    ///
    /// # Errors
    /// It would be open to more people than a file at that path may be, or than a private key may be.
    pub fn of_file(self, path: &str, content: &[u8], usual: u16) -> Result<(Access, Privacy), Exposed> {
        let guard = guard(path);
        let usual = match guard {
            Some(guard) if usual & !guard.most != 0 => guard.usual,
            _ => usual,
        };
        let access = self.access(if self.secret { usual & 0o700 } else { usual });
        if let Some(guard) = guard.filter(|guard| access.mode & !guard.most != 0) {
            return Err(Exposed::Mode {
                mode: access.mode,
                most: guard.most,
            });
        }
        let is_private = self.secret || access.mode & OTHERS_MAY_READ == 0;
        if is_private || !has_private_key(content) {
            return Ok((access, Privacy::secret_if(is_private)));
        }
        match self.mode {
            Some(_) => Ok((access, Privacy::Undeclared)),
            None => Err(Exposed::Key),
        }
    }

    /// What a file of the base at the same path keeps of its access.
    pub fn if_there(self) -> IfThere {
        match (self.mode, self.owner) {
            (None, None) if self.secret => IfThere::SetMode,
            (None, None) => IfThere::Keep,
            (Some(_), None) => IfThere::SetMode,
            (None, Some(_)) if self.secret => IfThere::Set,
            (None, Some(_)) => IfThere::SetOwner,
            (Some(_), Some(_)) => IfThere::Set,
        }
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

/// Why a file cannot have the mode that it would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// Others could read or write what only few may.
    #[error("its mode is {mode:04o}, and a file at this path may have {most:04o} at most")]
    Mode { mode: u16, most: u16 },
    /// Nobody has said who may read it.
    #[error("it holds a private key, and everybody on the card could read it")]
    Key,
}

impl Exposed {
    /// What the person can do, for a file of farm.yaml.
    pub fn hint(self, source: &str) -> String {
        match self {
            Self::Mode { .. } => "leave its mode out: it has the right one then".into(),
            Self::Key => format!(
                "write {{file: {source:?}, secret: true}}, or, if everybody may read it, {{file: {source:?}, mode: \"0644\"}}"
            ),
        }
    }

    /// The same, for a file of an overlay.
    pub fn hint_for_overlay(self) -> &'static str {
        match self {
            Self::Mode { .. } => "leave its mode out of overlay.toml: it has the right one then",
            Self::Key => {
                "name it in overlay.toml with `secret = true`, or, if everybody may read it, `mode = \"0644\"`"
            }
        }
    }
}

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

    const UNDECLARED: Declared = Declared {
        mode: None,
        owner: None,
        secret: false,
    };

    #[test]
    fn what_not_everybody_may_read_is_private() {
        let check = |declared: Declared, mode: u16, privacy: Privacy| {
            let (access, found) = declared.of_file("/etc/motd", b"x", 0o644).unwrap();
            assert_eq!((access.mode, found), (mode, privacy), "{declared:?}");
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

    #[test]
    fn what_is_private_by_its_path_is_never_open() {
        let check = |path: &str, mode: Option<u16>, secret: bool, expect: Option<(u16, Privacy)>| {
            let declared = Declared {
                mode,
                secret,
                ..UNDECLARED
            };
            for usual in [0o644, 0o755, 0o664] {
                let found = declared.of_file(path, b"x", usual).ok();
                let found = found.map(|(access, privacy)| (access.mode, privacy));
                assert_eq!(found, expect, "{path} {declared:?} {usual:04o}");
            }
        };
        check("/etc/shadow", None, false, Some((0o600, Privacy::Secret)));
        check("/etc/shadow", Some(0o640), false, Some((0o640, Privacy::Secret)));
        check("/etc/shadow", Some(0o644), false, None);
        check("/etc/sudoers", None, false, Some((0o440, Privacy::Secret)));
        check("/etc/sudoers", None, true, Some((0o400, Privacy::Secret)));
        check("/etc/sudoers", Some(0o777), false, None);
        check("/root/.ssh/id_rsa", Some(0o640), false, None);
    }

    #[test]
    fn a_private_key_is_declared() {
        let key = format!("-----BEGIN {} KEY-----\n", "PRIVATE");
        let at = |mode: Option<u16>, secret: bool, usual: u16| {
            let declared = Declared {
                mode,
                secret,
                ..UNDECLARED
            };
            let found = declared.of_file("/srv/key", key.as_bytes(), usual)?;
            Ok::<_, Exposed>((found.0.mode, found.1))
        };
        assert_eq!(at(None, false, 0o644), Err(Exposed::Key));
        assert_eq!(at(None, false, 0o600), Ok((0o600, Privacy::Secret)));
        assert_eq!(at(None, true, 0o644), Ok((0o600, Privacy::Secret)));
        assert_eq!(at(Some(0o644), false, 0o644), Ok((0o644, Privacy::Undeclared)));
    }
}
