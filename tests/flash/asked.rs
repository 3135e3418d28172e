//! At a terminal, the person is asked: which card, whether it may be unmounted, and then for its name.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::common::alone::with_own_mounts;
use crate::common::disk::{Access, Disk};
use crate::common::{have, run};
use crate::{folder, is_ready, surrounded, MIB, PALMFARM};

/// The tool at a terminal that script(1) makes, and a person who reads before they type.
struct Terminal {
    script: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    _dir: TempDir,
}

impl Terminal {
    fn start(arguments: &str) -> Self {
        let dir = folder();
        let mut script = script(arguments, dir.path()).spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut out, all) = (script.stdout.take().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = out.read(&mut piece) {
                all.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self {
            script,
            shown,
            _dir: dir,
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// Wait until `text` is shown behind the first `from` bytes; all that is shown.
    fn sees(&self, from: usize, text: &str) -> String {
        let started = Instant::now();
        loop {
            let shown = self.shown();
            if shown.get(from..).is_some_and(|new| new.contains(text)) {
                return shown;
            }
            assert!(
                started.elapsed() < Duration::from_secs(120),
                "no {text:?} in: {shown}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Type a line, and wait until `text` is shown.
    fn answers(&mut self, line: &str, text: &str) -> String {
        let from = self.shown().len();
        let typed = self.script.stdin.as_mut().unwrap();
        typed.write_all(line.as_bytes()).unwrap();
        typed.flush().unwrap();
        self.sees(from, text)
    }

    fn ended(&mut self) -> Option<i32> {
        self.script.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Without its input, script(1) ends the terminal, and the tool has nobody to ask.
        drop(self.script.stdin.take());
        drop(self.script.wait());
    }
}

fn script(arguments: &str, dir: &Path) -> Command {
    let command = format!("{PALMFARM} {arguments}");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    surrounded(&mut script, dir);
    script
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    script
}

/// The number that the list gives `disk`.
fn number_of(disk: &Disk, shown: &str) -> String {
    let row = shown
        .lines()
        .find(|line| line.contains(&format!(": {},", disk.node())))
        .unwrap();
    row.split(':').next().unwrap().trim().to_owned()
}

const ASKS: &str = "(its number or name, q to leave)?";

/// Run the tool at a terminal that script(1) makes, with `typed` on it; its exit code and what was shown.
pub(crate) fn at_a_terminal(arguments: &str, typed: &str) -> (Option<i32>, String) {
    let dir = folder();
    let mut script = script(arguments, dir.path()).spawn().unwrap();
    script.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let out = script.wait_with_output().unwrap();
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stdout).into_owned(),
    )
}

pub(crate) fn can_ask() -> bool {
    // Of the package bsdutils or util-linux-extra.
    have(&["script"]) && is_ready()
}

#[test]
fn only_the_name_of_the_card_will_do() {
    if !can_ask() {
        return;
    }
    let disk = Disk::new(256 * MIB);
    let before = disk.hash();
    let name = disk.node().trim_start_matches("/dev/");
    let arguments = format!("flash farm.yaml {} --allow loop", disk.node());
    for answer in ["y\n", "yes\n", "\n", "/dev\n"] {
        let (code, shown) = at_a_terminal(&arguments, answer);
        assert_eq!(code, Some(1), "{answer:?}: {shown}");
        assert!(shown.contains(&format!("type {name} to overwrite it")), "{shown}");
        assert!(shown.contains("nothing was touched"), "{shown}");
        assert_eq!(disk.hash(), before, "{answer:?}");
    }
    let (code, shown) = at_a_terminal(&arguments, &format!("{name}\n"));
    assert_eq!(code, Some(0), "{shown}");
    // What is about to be lost was shown.
    assert!(
        shown.contains("268.4 MB") && shown.contains("on it now: nothing that is known"),
        "{shown}"
    );
    assert_ne!(disk.hash(), before);
}

#[test]
fn a_card_is_picked_by_number() {
    if !can_ask() {
        return;
    }
    let disk = Disk::new(256 * MIB);
    let before = disk.hash();
    let arguments = "flash farm.yaml --allow loop";
    let (code, shown) = at_a_terminal(arguments, "0\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains(disk.node()), "{shown}");
    // Other tests have disks of their own on the list.
    let number = number_of(&disk, &shown);
    let (code, shown) = at_a_terminal(arguments, &format!("{number}\nno\n"));
    assert_eq!(code, Some(1), "{shown}");
    assert_eq!(disk.hash(), before);
    // Without the loop devices, a machine may have no card at all; then the tool waits for one until the input ends.
    let (code, shown) = at_a_terminal("flash farm.yaml", "x\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("there is no /dev/x"), "{shown}");
}

#[test]
fn a_wrong_answer_is_explained_and_asked_again() {
    if !can_ask() {
        return;
    }
    let disk = Disk::new(256 * MIB);
    let before = disk.hash();
    let mut terminal = Terminal::start("flash farm.yaml --allow loop");
    terminal.sees(0, ASKS);
    for (answer, why) in [
        ("99\n", "99 is not on the list"),
        ("0\n", "0 is not on the list"),
        ("\n", "type the number of a disk on the list, or its name"),
        ("sdzz\n", "there is no /dev/sdzz"),
        ("/dev/null\n", "/dev/null is a character device, not a disk"),
    ] {
        let from = terminal.shown().len();
        terminal.answers(answer, why);
        terminal.sees(from, ASKS);
    }
    // A name will do as well as a number.
    let name = disk.node().trim_start_matches("/dev/").to_owned();
    terminal.answers(&format!("{name}\n"), &format!("type {name} to overwrite it"));
    terminal.answers("q\n", "nothing was touched");
    assert_eq!(terminal.ended(), Some(1));

    let mut terminal = Terminal::start("flash farm.yaml --allow loop");
    terminal.sees(0, ASKS);
    terminal.answers("q\n", "nothing was touched");
    assert_eq!(terminal.ended(), Some(1));
    let mut terminal = Terminal::start("flash farm.yaml --allow loop");
    terminal.sees(0, ASKS);
    terminal.answers("\u{3}", "nothing was touched");
    assert_eq!(terminal.ended(), Some(130));
    assert_eq!(disk.hash(), before);
}

#[test]
fn a_mounted_card_is_unmounted_if_the_person_says_so() {
    if !can_ask() || !have(&["mkfs.ext4"]) {
        return;
    }
    with_own_mounts(|| {
        let mut disk = Disk::new(256 * MIB);
        let part = disk.partition();
        run("mkfs.ext4", &["-q", &part]);
        let mount = disk.mount_part(&part, Access::Read);
        let before = disk.hash();
        let at = mount.to_str().unwrap();
        let is_mounted = || {
            std::fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains(&part)
        };

        let mut terminal = Terminal::start("flash farm.yaml --allow loop");
        let shown = terminal.sees(0, ASKS);
        assert!(
            shown.contains(&format!("mounted at {at}: it must be unmounted first")),
            "{shown}"
        );
        let number = number_of(&disk, &shown);
        let question = format!("unmount {at}? [y/N]");
        for answer in ["\n", "n\n", "/dev\n"] {
            terminal.answers(&format!("{number}\n"), &question);
            terminal.answers(answer, "it stays mounted");
            assert!(is_mounted());
        }
        // Never by force: a filesystem that somebody uses stays.
        let user = std::fs::File::open(mount.join("lost+found")).unwrap();
        terminal.answers(&format!("{number}\n"), &question);
        let shown = terminal.answers("y\n", "close the files and terminals that use it");
        assert!(shown.contains("target is busy"), "{shown}");
        assert!(is_mounted());
        drop(user);
        // The name of the partition leads to the disk.
        terminal.answers(&format!("{part}\n"), "the whole disk is");
        let name = disk.node().trim_start_matches("/dev/").to_owned();
        terminal.answers(&format!("{name}\n"), &question);
        terminal.answers("yes\n", &format!("type {name} to overwrite it"));
        assert!(!is_mounted());
        disk.forget(&[at]);
        terminal.answers("no\n", "nothing was touched");
        assert_eq!(terminal.ended(), Some(1));
        assert_eq!(disk.hash(), before);
    });
}

#[test]
fn a_card_may_come_late_and_go() {
    if !can_ask() {
        return;
    }
    let mut terminal = Terminal::start("flash farm.yaml --allow loop");
    terminal.sees(0, "q to leave)");
    let disk = Disk::new(256 * MIB);
    let row = format!(": {},", disk.node());
    let number = number_of(&disk, &terminal.sees(0, &row));
    let another = Disk::new(256 * MIB);
    let shown = terminal.sees(0, &format!(": {},", another.node()));
    assert_ne!(number_of(&another, &shown), number);
    drop(another);
    terminal.sees(0, "can no longer be picked");
    let name = disk.node().trim_start_matches("/dev/").to_owned();
    terminal.answers(&format!("{number}\n"), &format!("type {name} to overwrite it"));
    // Another disk never has the number of one that is gone.
    terminal.answers("no\n", "nothing was touched");
    assert_eq!(terminal.ended(), Some(1));

    let mut terminal = Terminal::start("flash farm.yaml --allow loop");
    let number = number_of(&disk, &terminal.sees(0, &row));
    let gone = format!("{number} was {}, which is gone", disk.node());
    drop(disk);
    terminal.answers(&format!("{number}\n"), &gone);
}
