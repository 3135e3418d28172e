//! The folder that relative paths start from, and the home folder that `~` means among them. It opens nothing.

use std::path::{Path, PathBuf};

/// A folder, and whose home `~` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
    home: Option<PathBuf>,
}

impl Folder {
    /// The folder `path`, for whom `~` is `home`. Without a home, `~` is a name like any other.
    pub fn new(path: impl Into<PathBuf>, home: Option<PathBuf>) -> Self {
        Self {
            path: path.into(),
            home,
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `named` is: `~` and `~/…` are in the home folder, and another relative path starts here.
    pub fn join(&self, named: impl AsRef<Path>) -> PathBuf {
        let named = named.as_ref();
        match (named.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.path.join(named),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_folder_only_where_it_is_a_whole_name() {
        let folder = Folder::new("/farm", Some("/home/nina".into()));
        for (named, expect) in [
            ("motd.txt", "/farm/motd.txt"),
            ("~/.ssh/id.pub", "/home/nina/.ssh/id.pub"),
            ("~", "/home/nina/"),
            ("~root/x", "/farm/~root/x"),
            ("x/~/y", "/farm/x/~/y"),
            ("./~/y", "/farm/./~/y"),
            ("/etc/motd", "/etc/motd"),
        ] {
            assert_eq!(folder.join(named), Path::new(expect), "{named}");
        }
        assert_eq!(Folder::new("/farm", None).join("~/x"), Path::new("/farm/~/x"));
    }
}
