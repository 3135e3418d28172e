//! Checks the files that a farm names: each exists, has the right kind, and is not too large. Nothing is kept: the code that
//! needs a file reads it again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::base::locate::BaseRef;
use crate::base::source;
use crate::edit::tree::Privacy;
use crate::farm::lxd_keys::Daemon;
use crate::farm::node::{Node, Step};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::{did_you_mean, quoted};
use crate::farm::{Farm, FileSource, Password, RunWhat};

use super::cluster_keys::{ClusterKeys, KeysError};
use super::host_keys;
use super::packing::Packing;
use super::scripts::Scripts;
use super::understood::Understood;
use super::LARGEST_FILE;
use crate::base::download::catalogue::KNOWN;
use crate::farm::passwords::{self, Environment, Remark, SecretError};
use crate::host::bounded_read;
use crate::host::files::{is_private, others_may_read};
use crate::host::folder::Folder;
use crate::text::{io_reason, shell_path};

/// The most names of a folder that are looked through for what a person may have meant.
const NEIGHBOURS: usize = 1000;

/// Look at every file that `farm`, read from the document of `read`, names below `dir`, and fill in what is in the files of
/// SSH keys, of Debian packages and of snaps.
pub(super) fn check(
    farm: &mut Farm,
    base: &str,
    read: &Understood<'_>,
    dir: &Folder,
    environment: Environment<'_>,
    p: &mut Problems,
) {
    let look = &mut Look {
        document: read.document(),
        dir,
        p,
        scripts: Scripts::default(),
        daemon: None,
    };
    match BaseRef::new(&farm.base) {
        BaseRef::Path(path) => look.image(&["base".into()], path),
        BaseRef::Name(name) => look.base(&["base".into()], name),
        BaseRef::Url(_) => {}
    }
    look.ssh_keys(&mut farm.users);
    for (index, user) in farm.users.iter().enumerate() {
        if !read.is_known(&["users".into(), index.into(), "name".into()]) {
            continue;
        }
        look.password(index, &user.name, user.password.as_ref(), environment);
    }
    for (alias, image) in &farm.images {
        let place = ["images".into(), alias.into()];
        let lxd = farm.lxd.as_ref();
        look.daemon = lxd
            .filter(|_| read.is_known(&["lxd".into(), "flavour".into()]))
            .filter(|_| read.is_known(&["lxd".into(), "channel".into()]))
            .and_then(|lxd| Daemon::of(base, lxd));
        look.archive(&[&place[..], &["file".into()]].concat(), &image.file, &IMAGE);
        if let Some(metadata) = &image.metadata {
            look.archive(&[&place[..], &["metadata".into()]].concat(), metadata, &METADATA);
        }
    }
    look.carried_packages(&mut farm.carry);
    look.carried_snaps(&mut farm.carry.lxd, &|index| {
        read.is_known(&["carry".into(), "lxd".into(), index.into(), "dangerous".into()])
    });
    for container in &farm.containers {
        let place: [Step<'_>; 2] = ["containers".into(), (&container.name).into()];
        look.contents(&[&place[..], &["files".into()]].concat(), &container.files);
        for (index, run) in container.run.iter().enumerate() {
            if let RunWhat::Script(script) = &run.what {
                let step = [&place[..], &["run".into(), index.into(), "script".into()]].concat();
                look.script(&step, script);
            }
        }
    }
    if read.is_known(&["ssh".into()])
        && read.is_known(&["cards".into()])
        && read.is_known(&["hostname".into()])
    {
        for card in farm.resolved_cards() {
            if let Some(file) = farm.ssh.host_key(&card.hostname) {
                look.host_key(&card.hostname, &file);
            }
        }
    }
    look.contents(&["files".into()], &farm.files);
    for (index, overlay) in farm.overlays.iter().enumerate() {
        look.overlay(&["overlays".into(), index.into()], overlay);
    }
}

/// Look at the keys of the cluster of `farm`: they can be used, and every card has a pair.
pub(super) fn cluster_keys(farm: &Farm, read: &Understood<'_>, dir: &Folder, p: &mut Problems) {
    let place: [Step<'_>; 2] = ["cluster".into(), "keys".into()];
    let Some(cluster) = farm.cluster.as_ref().filter(|_| read.is_known(&place)) else {
        return;
    };
    let cards = farm
        .cards
        .keys()
        .filter(|_| read.has_known_keys(&["cards".into()]));
    let keys = ClusterKeys::read(&dir.join(&cluster.keys));
    let Err(error) = keys.and_then(|keys| keys.has_all(cards)) else {
        return;
    };
    let path = quoted(&cluster.keys);
    let message = match &error {
        KeysError::Read(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("there is no file {path}")
        }
        KeysError::Read(error) => format!("{path} cannot be used: {}", io_reason(error)),
        error => format!("{path} cannot be used: {error}"),
    };
    let hint = match &error {
        KeysError::OthersMayRead => Some(format!("chmod 600 {}", shell_path(&cluster.keys))),
        error => error.hint().map(Into::into),
    };
    let at = read.document().locate(&place);
    p.error(at, message).maybe_hint(hint);
}

/// The files of a farm, and where to report what is wrong with them.
pub(super) struct Look<'a> {
    pub(super) document: &'a Node,
    pub(super) dir: &'a Folder,
    pub(super) p: &'a mut Problems,
    scripts: Scripts,
    /// The daemon that imports images, where the base tells.
    daemon: Option<Daemon>,
}

/// What kind of archive is expected.
struct Archive {
    /// How messages call it.
    what: &'static str,
    packings: &'static [Packing],
    /// Whether LXD reads it.
    is_for_lxd: bool,
}

const OVERLAY: Archive = Archive {
    what: "a folder or a tar archive, perhaps compressed (gz, xz, zst)",
    packings: &[Packing::Gzip, Packing::Xz, Packing::Zstd],
    is_for_lxd: false,
};

const METADATA: Archive = Archive {
    what: "a tar archive, perhaps compressed (gz, xz, zst, bz2)",
    packings: &[Packing::Gzip, Packing::Xz, Packing::Zstd, Packing::Bzip2],
    is_for_lxd: true,
};

const IMAGE: Archive = Archive {
    what: "a tar archive, perhaps compressed (gz, xz, zst, bz2), or a squashfs",
    packings: &[
        Packing::Gzip,
        Packing::Xz,
        Packing::Zstd,
        Packing::Bzip2,
        Packing::Squashfs,
    ],
    is_for_lxd: true,
};

impl Look<'_> {
    pub(super) fn error(&mut self, place: &[Step<'_>], message: String) {
        self.p.error(self.document.locate(place), message);
    }

    pub(super) fn warning(&mut self, place: &[Step<'_>], message: &str, hint: &str) {
        let at = self.document.locate(place);
        self.p.warning(at, message).hint(hint);
    }

    /// Report why `path` cannot be used. An empty path stands for an invalid value, which has been reported.
    pub(super) fn found<T>(&mut self, place: &[Step<'_>], path: &str, result: io::Result<T>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(_) if path.is_empty() => return None,
            Err(_) if self.p.is_full() => {
                self.p.count();
                return None;
            }
            Err(error) => error,
        };
        let at = self.document.locate(place);
        let problem = match error.kind() {
            io::ErrorKind::NotFound => Problem::error(at, format!("there is no file {}", quoted(path))),
            _ => Problem::error(
                at,
                format!("{} cannot be used: {}", quoted(path), io_reason(&error)),
            ),
        };
        let hint = (error.kind() == io::ErrorKind::NotFound).then(|| missing(self.dir, path));
        self.p.push(problem.maybe_hint(hint.flatten()));
        None
    }

    /// A base that is a file, judged by what is in it.
    fn image(&mut self, place: &[Step<'_>], path: &str) {
        let Some(file) = self.regular(place, path) else {
            return;
        };
        let Some(Some(what)) = self.found(place, path, source::unsupported(file)) else {
            return;
        };
        let at = self.document.locate(place);
        let message = format!("{} is {what}, not an image that palmfarm can read", quoted(path));
        self.p.error(at, message).hint(what.hint());
    }

    /// A base by name.
    fn base(&mut self, place: &[Step<'_>], name: &str) {
        // Decoding has reported an invalid name.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return;
        }
        if BaseRef::Name(name).is_known() {
            return;
        }
        if self.dir.join(name).is_file() {
            return self.image(place, name);
        }
        let at = self.document.locate(place);
        let names = KNOWN.iter().map(|known| known.name).chain(["mini"]);
        let hint = did_you_mean(name, names)
            .unwrap_or_else(|| "`palmfarm base list` lists them; a file is named by its path".into());
        let message = format!("there is no base called {}", quoted(name));
        self.p.error(at, message).hint(hint);
    }

    fn regular(&mut self, place: &[Step<'_>], path: &str) -> Option<File> {
        let opened = bounded_read::open(&self.dir.join(path));
        self.found(place, path, opened)
    }

    /// Files that go onto the card whole.
    fn contents(&mut self, place: &[Step<'_>], files: &BTreeMap<String, FileSource>) {
        for (target, source) in files {
            let path = &source.file;
            let opened = bounded_read::open(&self.dir.join(path)).and_then(|file| {
                let facts = file.metadata()?;
                let length = facts.len();
                if length <= LARGEST_FILE {
                    return Ok(facts);
                }
                let (mebibytes, most) = (length >> 20, LARGEST_FILE >> 20);
                Err(io::Error::other(format!(
                    "it has {mebibytes} MiB, and {most} MiB is the limit"
                )))
            });
            let place = [place, &[target.into()]].concat();
            let Some(facts) = self.found(&place, path, opened) else {
                continue;
            };
            // What is private by its path or content is another matter.
            let is_meant = || {
                let content = bounded_read::read(&self.dir.join(path), LARGEST_FILE).ok()?;
                let planned = source.declared.of_file(target, &content, 0o644).ok()?;
                Some(planned.1 == Privacy::Public && source.declared.mode.is_none())
            };
            if is_private(&facts) && is_meant() == Some(true) {
                let message = format!(
                    "nobody but you can read {}, but everybody on the Pi can",
                    quoted(path)
                );
                let hint = format!(
                    "write {{file: {path:?}, secret: true}} if it is private, else: chmod 644 {}",
                    shell_path(path)
                );
                self.warning(&place, &message, &hint);
            }
        }
    }

    fn script(&mut self, place: &[Step<'_>], path: &str) {
        let mut scripts = std::mem::take(&mut self.scripts);
        let looked = scripts.problems(path, &self.dir.join(path));
        if let Some(problems) = self.found(place, path, looked) {
            for problem in problems {
                let span = self.document.locate(place);
                self.p.push(Problem {
                    span,
                    ..problem.clone()
                });
            }
        }
        self.scripts = scripts;
    }

    fn archive(&mut self, place: &[Step<'_>], path: &str, expected: &Archive) {
        let Some(file) = self.regular(place, path) else {
            return;
        };
        let mut head = Vec::new();
        let read = file.take(512).read_to_end(&mut head);
        if self.found(place, path, read).is_none() {
            return;
        }
        // A tar has `ustar` at 257 (POSIX.1-2017, pax).
        let is_tar = head.get(257..262) == Some(b"ustar");
        let packing = Packing::of(&head);
        if !is_tar && !expected.packings.contains(&packing) {
            self.error(place, format!("{} is not {}", quoted(path), expected.what));
        }
        // LXD reads zstd since 4.9 (canonical/lxd, pull request 8174).
        let too_old = self.daemon.is_some_and(|daemon| daemon <= Daemon::Lxd40);
        if packing == Packing::Zstd && too_old && expected.is_for_lxd {
            let message = format!(
                "{} is packed with zstd, and the LXD of this base does not read that",
                quoted(path)
            );
            let hint = format!("zstd -dc {} | xz > IMAGE.tar.xz", shell_path(path));
            let at = self.document.locate(place);
            self.p.push(Problem::error(at, message).hint(hint));
        }
    }

    /// A folder or an archive.
    fn overlay(&mut self, place: &[Step<'_>], path: &str) {
        match fs::metadata(self.dir.join(path)) {
            Ok(there) if there.is_dir() => {
                let listed = fs::read_dir(self.dir.join(path)).map(drop);
                self.found(place, path, listed);
            }
            Ok(_) => self.archive(place, path, &OVERLAY),
            Err(error) => {
                self.found::<()>(place, path, Err(error));
            }
        }
    }

    /// The host key of the card called `host`.
    fn host_key(&mut self, host: &str, file: &str) {
        let place: [Step<'_>; 2] = ["ssh".into(), "host_keys".into()];
        let at = self.document.locate(&place);
        let path = self.dir.join(file);
        let bytes = match bounded_read::read(&path, host_keys::LARGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = file.strip_suffix(host).unwrap_or(file).trim_end_matches('/');
                let make = format!("mkdir -p {}", shell_path(folder));
                let hint = format!("{make} && {}", host_keys::command(host, &shell_path(file)));
                let message = format!("there is no host key {} for {host}", quoted(file));
                self.p.error(at, message).hint(hint);
                return;
            }
            read => self.found(&place, file, read),
        };
        let Some(bytes) = bytes else { return };
        if let Err(why) = host_keys::public_half(&bytes, host) {
            let hint = host_keys::command(host, &shell_path(file));
            self.p
                .error(at, format!("{} is not a host key: {why}", quoted(file)))
                .hint(format!("move it away, and make one: {hint}"));
        }
        if open_to_others(&path) {
            let hint = format!("chmod 600 {}", shell_path(file));
            let message = format!(
                "other users of this machine can read the host key {}",
                quoted(file)
            );
            self.p.warning(at, message).hint(hint);
        }
    }

    fn password(
        &mut self,
        index: usize,
        user: &str,
        password: Option<&Password>,
        environment: Environment<'_>,
    ) {
        let Some(password) = password else { return };
        let key = match password {
            Password::Hash(_) => return,
            Password::File(_) => "file",
            Password::Env(_) => "env",
        };
        let place = ["users".into(), index.into(), "password".into(), key.into()];
        match passwords::available(self.dir, user, password, environment) {
            Ok(None) => {}
            Ok(Some(Remark::Blank)) => self.warning(
                &place,
                "the password begins or ends with a blank, which is a part of it",
                "remove the blank if it is not meant",
            ),
            Err(SecretError::Read { file, source, .. }) => {
                self.found::<()>(&place, &file, Err(source));
            }
            // Another machine may build the card.
            Err(error @ SecretError::Variable { .. }) => {
                self.warning(
                    &place,
                    &error.to_string(),
                    "it must be set where the card is built",
                );
            }
            Err(error) => self.error(&place, error.to_string()),
        }
        if let Password::File(file) = password {
            if open_to_others(&self.dir.join(file)) {
                let hint = format!("chmod 600 {}", shell_path(file));
                self.warning(&place, "other users of this machine can read the password", &hint);
            }
        }
    }
}

/// Whether the file's mode lets group or others read it.
fn open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| others_may_read(&there))
}

/// What helps somebody whose file is not there.
fn missing(dir: &Folder, path: &str) -> Option<String> {
    let here = || {
        (!path.starts_with(['/', '~']))
            .then_some("names of files begin at the folder of the farm file".into())
    };
    let is_key = Path::new(path).extension().is_some_and(|end| end == "pub");
    let key = || {
        is_key.then_some(
            "name a public key of yours (ls ~/.ssh/*.pub), or make one: ssh-keygen -t ed25519".into(),
        )
    };
    neighbour(dir, path).or_else(key).or_else(here)
}

/// A hint at a file beside the missing one that has a similar name.
fn neighbour(dir: &Folder, path: &str) -> Option<String> {
    let (folder, name) = path
        .rsplit_once('/')
        .map_or(("", path), |(folder, name)| (folder, name));
    let folder: PathBuf = dir.join(folder);
    let mut names: Vec<String> = fs::read_dir(folder)
        .ok()?
        .take(NEIGHBOURS)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let stem = format!("{name}.");
    if let Some(longer) = names
        .iter()
        .find(|other| other.starts_with(&stem) && stem.len() > 1)
    {
        return Some(format!("did you mean {longer:?}?"));
    }
    did_you_mean(name, names.iter().map(String::as_str))
}
