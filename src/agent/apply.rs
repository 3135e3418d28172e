//! `palmfarm-agent apply FILE`: a later document for a card that is running, alone or in a tarball with the files that
//! it names. It is checked before anything is touched, replaces the card's own in one step, and is then run like it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::paths::{CARRIED, CLUSTER_KEY, DOCUMENT, FARM_FILES, IMAGES, PRESEED};
use palmfarm_protocol::validate;

use crate::digest;
use crate::journal::{Journal, Stage};
use crate::preview::preview;
use crate::program::{self, query};
use crate::root::{read_text_from, Root};
use crate::run::{self, ExitStatus};
use crate::status::Format;
use crate::step::StepError;

/// Where each process unpacks a tarball, in a directory of its own. It is on the filesystem of the files' destination, so
/// that each can be moved there in one step.
const UNPACKED: &str = "/var/lib/palmfarm/apply";

/// Where a tarball may put files: those that are pushed into containers, images, packages and snaps.
const BROUGHT: [&str; 3] = [FARM_FILES, IMAGES, CARRIED];

/// Bytes that must stay free on the card when a tarball is unpacked.
const ROOM: u64 = 256 << 20;

/// How long unpacking may take: some hundred megabytes of images onto an SD card.
const UNPACKING: Duration = Duration::from_secs(1800);

/// What becomes of a document that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Apply,
    /// Only say what would change.
    Look(Format),
}

/// Replace the card's document with the one in `file`, and make it true.
pub fn apply(root: &Root, file: &Path, mode: Mode) -> ExitStatus {
    if !root.has(DOCUMENT) {
        let why = format!("this machine was not set up by palmfarm: it has no {DOCUMENT}");
        return refused(file, &[why]);
    }
    let (bundle, text) = match read(root, file) {
        Ok(read) => read,
        Err(error) => return refused(file, &[error.message]),
    };
    let tree = bundle.as_ref().map(|bundle| Root::new(&bundle.0));
    let (document, digest) = match run::parse(file, &text) {
        Ok(read) => read,
        Err(error) => return refused(file, &[error.message]),
    };
    let mut reasons = validate::flaws(&document);
    let now = run::document(&root.at(DOCUMENT));
    match &now {
        Ok((now, _)) => reasons.extend(other_card(now, &document)),
        Err(error) => reasons.push(error.message.clone()),
    }
    let brought = |path: &str| tree.as_ref().is_some_and(|tree| brings(tree, path));
    // A card that has joined was handed the cluster's key, so it may take the place of the one that formed the cluster.
    let is_member = Journal::open(root).is_ok_and(|journal| journal.stage() == Stage::Member);
    for path in validate::files(&document) {
        let will_be_there = brought(path) || root.has(path) || is_member && path == CLUSTER_KEY;
        if !will_be_there {
            reasons.push(format!(
                "it names {path}, which is neither in the tarball nor on this card"
            ));
        }
    }
    for pushed in document.containers.iter().flat_map(|one| &one.files) {
        let holder = tree
            .as_ref()
            .filter(|tree| brings(tree, &pushed.source))
            .unwrap_or(root);
        let there = File::open(holder.at(&pushed.source)).and_then(|mut file| digest::sha256(&mut file));
        match there {
            Ok(there) if there == pushed.sha256 => {}
            // That it is missing has been said.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => reasons.push(format!("reading {}: {error}", pushed.source)),
            Ok(_) => reasons.push(format!(
                "{} is not the file that it names; give the tarball, which has it: palmfarm build FARM -o FARM.tar",
                pushed.source
            )),
        }
    }
    reasons.dedup();
    if !reasons.is_empty() {
        return refused(file, &reasons);
    }
    if let (Mode::Look(format), Ok((now, _))) = (mode, &now) {
        return preview(root, now, &document, format);
    }
    let install = || {
        for path in validate::files(&document) {
            if let Some(tree) = tree.as_ref().filter(|tree| brings(tree, path)) {
                bring(tree, root, path)?;
            }
        }
        if let Some(lxd) = &document.lxd {
            let preseed = serde_json::to_string_pretty(&lxd.preseed).map_err(io::Error::other)?;
            root.write_private(PRESEED, format!("{preseed}\n").as_bytes())?;
        }
        // Last: until then the card has its own document and the files that this one names.
        root.write_private(DOCUMENT, text.as_bytes())
    };
    run::run_after(root, &document, &digest, || {
        let done = install().map_err(|error| StepError::new(format!("installing it: {error}")));
        drop(bundle);
        done
    })
}

/// The directory that a tarball was unpacked into; it is removed when this is dropped.
struct Bundle(PathBuf);

impl Drop for Bundle {
    fn drop(&mut self) {
        // What a power cut leaves is removed before the next one is unpacked.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The document that `file` is or holds, and what came with it. The file is opened once, and its document is read once:
/// somebody may replace it meanwhile, and what is judged must be what is installed.
fn read(root: &Root, file: &Path) -> Result<(Option<Bundle>, String), StepError> {
    let failed = |error: io::Error| StepError::new(format!("reading it: {error}"));
    let mut open = File::open(file).map_err(failed)?;
    let mut head = Vec::new();
    open.by_ref().take(262).read_to_end(&mut head).map_err(failed)?;
    // A tarball: both POSIX's and GNU's form have this at offset 257.
    if head.get(257..) != Some(b"ustar") {
        let text = read_text_from(head.as_slice().chain(open)).map_err(failed)?;
        return Ok((None, text));
    }
    if !open.metadata().map_err(failed)?.is_file() {
        return Err(StepError::new("a tarball must be a plain file"));
    }
    check_room(root, open.metadata().map_err(failed)?.len())?;
    let same = format!("/proc/{}/fd/{}", std::process::id(), open.as_raw_fd());
    let bundle = unpack(root, &same)?;
    let inside = |error| StepError::new(format!("reading {DOCUMENT} in it: {error}"));
    let text = Root::new(&bundle.0).read(DOCUMENT).map_err(inside)?;
    Ok((Some(bundle), text))
}

/// Refuse to unpack so many bytes if that would leave less than [`ROOM`]: the containers' pool may be a file on the same
/// filesystem, and a write into it that finds no room is lost.
fn check_room(root: &Root, bytes: u64) -> Result<(), StepError> {
    let mut dir = root.at(UNPACKED);
    while !dir.exists() && dir.pop() {}
    let dir = dir.to_string_lossy();
    let shown = query("stat", &["--file-system", "--format=%a %S", &dir]);
    let mut numbers = shown.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(blocks)), Some(Ok(size))) = (numbers.next(), numbers.next()) else {
        return Err(StepError::new(format!(
            "stat does not say how much room {dir} has"
        )));
    };
    let free = blocks.saturating_mul(size);
    if free < bytes.saturating_add(ROOM) {
        return Err(StepError::new(format!(
            "it has {} MB, and this card has {} MB free, of which {} MB must stay free; make room (lxc image list, df -h)",
            bytes / 1_000_000,
            free / 1_000_000,
            ROOM / 1_000_000
        )));
    }
    Ok(())
}

fn unpack(root: &Root, file: &str) -> Result<Bundle, StepError> {
    for process in root.names(UNPACKED) {
        if !root.has(&format!("/proc/{process}")) {
            drop(Bundle(root.at(&format!("{UNPACKED}/{process}"))));
        }
    }
    let dir = root.at(&format!("{UNPACKED}/{}", std::process::id()));
    let failed = |error: io::Error| StepError::new(format!("making {}: {error}", dir.display()));
    fs::create_dir_all(&dir).map_err(failed)?;
    let bundle = Bundle(dir);
    let words = [
        "--extract",
        "--no-same-owner",
        "--no-same-permissions",
        "--file",
        file,
        "--directory",
        &bundle.0.to_string_lossy(),
    ];
    program::run(root, "tar", &words, UNPACKING)?;
    // A symbolic link among the folders would lead to files of the card, and reading a pipe would never end.
    match first_special(&bundle.0) {
        Ok(None) => Ok(bundle),
        Ok(Some(path)) => {
            let within = path.strip_prefix(&bundle.0).unwrap_or(&path);
            Err(StepError::new(format!(
                "{} in it is neither a folder nor a plain file",
                within.display()
            )))
        }
        Err(error) => Err(StepError::new(format!("reading its contents: {error}"))),
    }
}

/// The first entry below `dir` that is neither a directory nor a regular file; no link is followed.
fn first_special(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if !kind.is_file() {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

/// Whether `tree` has a plain file at `path`, and a tarball may put one there.
fn brings(tree: &Root, path: &str) -> bool {
    let below = |dir: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
    let may = BROUGHT.iter().any(|dir| below(dir));
    may && fs::symlink_metadata(tree.at(path)).is_ok_and(|file| file.is_file())
}

/// Move the file at `path` of `tree` to the same path of `root`.
fn bring(tree: &Root, root: &Root, path: &str) -> io::Result<()> {
    let (from, to) = (tree.at(path), root.at(path));
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    File::open(&from)?.sync_all()?;
    fs::rename(from, to)
}

/// Why `new` is not a document for the card that `now` is on. What other files of the card also depend on cannot be
/// changed by a document.
fn other_card(now: &FirstBoot, new: &FirstBoot) -> Vec<String> {
    if now.card != new.card {
        return vec![format!(
            "it is for the card {}, and this is {}",
            new.card, now.card
        )];
    }
    let mut reasons = Vec::new();
    for (what, same) in [
        ("the host name", now.hostname == new.hostname),
        ("the network", now.network == new.network),
        (
            "where the FAT partition is mounted",
            now.boot_mount == new.boot_mount,
        ),
    ] {
        if !same {
            reasons.push(format!(
                "it changes {what}, which needs a newly written card: palmfarm build, palmfarm flash"
            ));
        }
    }
    reasons
}

fn refused(file: &Path, reasons: &[String]) -> ExitStatus {
    let shown = file.display();
    say!("palmfarm-agent: {shown} was not applied, and nothing was touched");
    for reason in reasons {
        say!("palmfarm-agent: {reason}");
    }
    ExitStatus::Refused
}

#[cfg(test)]
mod tests {
    use palmfarm_protocol::firstboot::VERSION;
    use palmfarm_protocol::network::{Ipv4, Ipv6};

    use super::*;
    use crate::confirm::tests::network;
    use crate::root::scratch::Scratch;

    fn document() -> FirstBoot {
        FirstBoot {
            version: VERSION,
            card: "palm1".into(),
            hostname: "palm".into(),
            network: network(Ipv4::Dhcp, Ipv6::Auto),
            packages: Vec::new(),
            carried: std::collections::BTreeMap::new(),
            daemon_users: Vec::new(),
            lxd: None,
            containers: Vec::new(),
            boot_mount: "/boot/firmware".into(),
        }
    }

    #[test]
    fn a_machine_that_is_not_a_card_is_left_alone() {
        let new = serde_json::to_string(&document()).unwrap();
        let scratch = Scratch::new("apply-elsewhere", &[("/tmp/new.json", &new)]);
        assert_eq!(
            apply(&scratch.0, &scratch.0.at("/tmp/new.json"), Mode::Apply),
            ExitStatus::Refused
        );
        assert_eq!(scratch.0.names("/"), ["tmp"]);
    }

    #[test]
    fn what_is_not_for_this_card_touches_nothing() {
        let now = serde_json::to_string(&document()).unwrap();
        let check = |new: &str| {
            let scratch = Scratch::new("apply", &[(DOCUMENT, &now), ("/tmp/new.json", new)]);
            for mode in [Mode::Apply, Mode::Look(Format::Text)] {
                let ending = apply(&scratch.0, &scratch.0.at("/tmp/new.json"), mode);
                assert_eq!(ending, ExitStatus::Refused, "{new}");
            }
            assert_eq!(scratch.0.read(DOCUMENT).unwrap(), now);
            assert!(!scratch.0.has("/run/palmfarm") && !scratch.0.has("/var"), "{new}");
        };
        let edited = |edit: fn(&mut FirstBoot)| {
            let mut new = document();
            edit(&mut new);
            serde_json::to_string(&new).unwrap()
        };
        check("");
        check("{}");
        check(&now.replace("\"version\":2", "\"version\":3"));
        check(&now.replace("\"version\":2", "\"version\":2,\"more\":1"));
        check(&edited(|new| new.card = "palm2".into()));
        check(&edited(|new| new.hostname = "other".into()));
        check(&edited(|new| new.network.vlan = Some(7)));
        check(&edited(|new| new.boot_mount = "/boot".into()));
        check(&edited(|new| new.packages = vec!["--purge".into()]));
    }

    /// A bundle of this document and of what `more` puts beside it is refused for naming `expect`.
    fn no_bundle(name: &str, expect: &str, more: impl FnOnce(&Path)) {
        let now = serde_json::to_string(&document()).unwrap();
        let scratch = Scratch::new(name, &[(DOCUMENT, &now), ("/tmp/new/etc/palmfarm/x", "x")]);
        let new = scratch.0.at("/tmp/new");
        more(&new);
        let file = scratch.0.at("/tmp/a:b.tar");
        let tar = std::process::Command::new("tar")
            .args(["--force-local", "-C"])
            .arg(&new)
            .arg("-cf")
            .arg(&file)
            .arg(".")
            .status()
            .unwrap();
        assert!(tar.success());
        let error = read(&scratch.0, &file).err().unwrap();
        assert!(error.message.contains(expect), "{}", error.message);
        assert!(scratch.0.names(UNPACKED).is_empty(), "it was left behind");
    }

    #[test]
    fn a_document_is_read_once() {
        let text = serde_json::to_string(&document()).unwrap();
        let scratch = Scratch::new("apply-once", &[("/tmp/x", "")]);
        let pipe = scratch.0.at("/tmp/pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        // What a pipe holds can be read by one reader only.
        let writer = std::thread::spawn({
            let (pipe, text) = (pipe.clone(), text.clone());
            move || fs::write(pipe, text).unwrap()
        });
        let (bundle, got) = read(&scratch.0, &pipe).unwrap();
        writer.join().unwrap();
        assert!(bundle.is_none() && got == text);
    }

    #[test]
    fn a_bundle_holds_folders_and_plain_files_only() {
        no_bundle("link", "var/lib/palmfarm/images in it", |new| {
            fs::create_dir_all(new.join("var/lib/palmfarm")).unwrap();
            std::os::unix::fs::symlink("/etc", new.join("var/lib/palmfarm/images")).unwrap();
        });
        no_bundle("pipe", "etc/palmfarm/firstboot.json in it", |new| {
            let made = std::process::Command::new("mkfifo")
                .arg(new.join("etc/palmfarm/firstboot.json"))
                .status();
            assert!(made.unwrap().success());
        });
    }

    /// Set in the process that has mounts of its own.
    const OWN_MOUNTS: &str = "PALMFARM_TEST_OWN_MOUNTS";

    #[test]
    fn a_tarball_that_does_not_fit_is_not_unpacked() {
        let run = |program: &str, words: &[&str]| {
            let status = std::process::Command::new(program).args(words).status();
            status.is_ok_and(|status| status.success())
        };
        if std::env::var_os(OWN_MOUNTS).is_none() {
            if !run("unshare", &["--mount", "true"]) {
                println!("skipped: a mount namespace of its own takes root");
                return;
            }
            let own = std::env::current_exe().unwrap();
            let name = "apply::tests::a_tarball_that_does_not_fit_is_not_unpacked";
            let again = std::process::Command::new("unshare")
                .arg("--mount")
                .arg(own)
                .args(["--exact", name, "--nocapture"])
                .env(OWN_MOUNTS, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&again.stdout);
            assert!(again.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let now = serde_json::to_string(&document()).unwrap();
        let there = format!("/tmp/new{DOCUMENT}");
        let scratch = Scratch::new("apply-full", &[(DOCUMENT, &now), (&there, &now)]);
        let (dir, file) = (scratch.0.at("/var"), scratch.0.at("/tmp/new.tar"));
        let (dir, tar) = (dir.to_str().unwrap(), file.to_str().unwrap());
        let new = scratch.0.at("/tmp/new");
        fs::write(new.join("etc/more"), vec![b'x'; 8 << 20]).unwrap();
        assert!(run("tar", &["-C", new.to_str().unwrap(), "-cf", tar, "."]));
        fs::create_dir(dir).unwrap();
        assert!(run("mount", &["-t", "tmpfs", "-o", "size=260m", "tmpfs", dir]));
        let refused = read(&scratch.0, &file).err().unwrap().message;
        let ending = apply(&scratch.0, &file, Mode::Apply);
        let left = scratch.0.names("/var");
        assert!(run("mount", &["-o", "remount,size=300m", dir]));
        let fits = read(&scratch.0, &file).is_ok();
        assert!(run("umount", &["--recursive", dir]));
        assert!(
            refused.contains("256 MB must stay free") || refused.contains("268 MB must stay free"),
            "{refused}"
        );
        assert_eq!((ending, left, fits), (ExitStatus::Refused, Vec::new(), true));
        assert_eq!(scratch.0.read(DOCUMENT).unwrap(), now);
    }

    #[test]
    fn reasons_are_reported_together() {
        let mut new = document();
        new.hostname = "other".into();
        new.network.vlan = Some(7);
        assert_eq!(other_card(&document(), &new).len(), 2);
        assert_eq!(other_card(&document(), &document()), [""; 0]);
    }
}
