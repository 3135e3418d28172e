//! Stopped at any moment, a flash leaves the card as it was, without a partition table, or whole.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::alone::alone;
use crate::common::disk::Disk;
use crate::common::run;
use crate::{flash, folder, is_ready, noise, palmfarm, surrounded, MIB};

/// Of the whole command; the writer alone is killed more often in the tests of devices.
const KILLS: u32 = 25;
const IMAGE: u64 = 48 * MIB;
const CARD: u64 = 64 * MIB;

fn start(dir: &Path, image: &Path, disk: &Disk) -> Child {
    let arguments = flash(image.to_str().unwrap(), disk.node(), &["--json"]);
    // Under nohup, the tests and all that they start ignore hang-ups.
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(crate::PALMFARM);
    command.args(arguments);
    surrounded(&mut command, dir);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a card holds after the flash was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Former,
    Nothing,
    Whole,
}

fn left(disk: &Disk, former: u8, image: &[u8]) -> Left {
    run("sync", &["-f", disk.file().to_str().unwrap()]);
    let card = fs::read(disk.file()).unwrap();
    let (head, rest) = card.split_at(usize::try_from(MIB).unwrap());
    if head.iter().all(|byte| *byte == 0) {
        return Left::Nothing;
    }
    if head.iter().all(|byte| *byte == former) {
        assert!(
            rest.iter().all(|byte| *byte == former),
            "the old head over new bytes"
        );
        return Left::Former;
    }
    // The first MiB goes in one write, of which a part may have arrived: sectors of either kind. Only with all of
    // it there may a table be seen, and then the rest must be there too.
    if head.get(510..512) == Some(&[0x55, 0xaa]) {
        assert!(
            rest.starts_with(&image[head.len()..]),
            "a partition table over half an image"
        );
        return if head == &image[..head.len()] {
            Left::Whole
        } else {
            Left::Nothing
        };
    }
    Left::Nothing
}

#[test]
fn a_killed_flash_leaves_no_table_over_half_an_image() {
    if !is_ready() {
        return;
    }
    alone(|| {
        let dir = folder();
        let image = noise(dir.path(), IMAGE);
        let bytes = fs::read(&image).unwrap();
        let disk = Disk::new(CARD);
        let fill = |byte: u8| {
            let all = vec![byte; usize::try_from(CARD).unwrap()];
            File::options()
                .write(true)
                .open(disk.node())
                .unwrap()
                .write_all_at(&all, 0)
                .unwrap();
            run("sync", &[disk.node()]);
        };
        fill(0xe5);
        let started = Instant::now();
        let whole = start(dir.path(), &image, &disk).wait_with_output().unwrap();
        assert!(whole.status.success());
        assert_eq!(left(&disk, 0xe5, &bytes), Left::Whole);
        let took = started.elapsed();
        let mut seen = Vec::new();
        // Spread over the time that a whole run took; further if the machine has become slower since.
        for step in 0..4 * KILLS {
            if step >= KILLS && seen.contains(&Left::Nothing) {
                break;
            }
            fill(0xe5);
            let mut child = start(dir.path(), &image, &disk);
            sleep(took.saturating_mul(step) / KILLS);
            // One that is done already cannot be killed; the card must be whole then.
            child.kill().unwrap();
            child.wait().unwrap();
            seen.push(left(&disk, 0xe5, &bytes));
        }
        seen.sort();
        let count = |what| seen.iter().filter(|left| **left == what).count();
        println!(
            "{} kills: the former content {}, nothing {}, whole {}",
            seen.len(),
            count(Left::Former),
            count(Left::Nothing),
            count(Left::Whole)
        );
        assert!(
            count(Left::Nothing) > 0,
            "no kill came while the card was written"
        );
    });
}

#[test]
fn ctrl_c_says_what_it_left() {
    if is_ready() {
        says_what_it_left("-INT");
    }
}

#[test]
fn a_closed_terminal_is_like_ctrl_c() {
    if is_ready() {
        says_what_it_left("-HUP");
    }
}

#[test]
fn progress_that_nobody_reads_stops_nothing() {
    if !is_ready() {
        return;
    }
    let dir = folder();
    let image = noise(dir.path(), IMAGE);
    let disk = Disk::new(CARD);
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for json in [&[][..], &["--json"]] {
        let path = image.to_str().unwrap();
        let arguments = flash(path, disk.node(), json);
        let mut command = palmfarm(dir.path(), &arguments);
        let status = command.stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let bytes = fs::read(&image).unwrap();
        assert_eq!(left(&disk, 0, &bytes), Left::Whole);
    }
}

/// A flash that gets `signal` while it writes.
fn says_what_it_left(signal: &str) {
    let dir = folder();
    let image = noise(dir.path(), 512 * MIB);
    let disk = Disk::new(600 * MIB);
    let mut child = start(dir.path(), &image, &disk);
    let mut text = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    // Once bytes of the image are on the card.
    loop {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "{text}");
        text.push_str(&line);
        if line.contains("\"phase\":\"write\"") {
            break;
        }
    }
    // The shell's own: not every system has the program.
    let status = Command::new("sh")
        .args(["-c", "kill \"$0\" \"$1\"", signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    sleep(Duration::from_millis(1));
    for line in out.lines() {
        text.push_str(&line.unwrap());
        text.push('\n');
    }
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(130), "{text}");
    assert!(
        text.contains("interrupted; ") && text.contains("write it again"),
        "{text}"
    );
    let mut head = vec![1; usize::try_from(MIB).unwrap()];
    File::open(disk.file())
        .unwrap()
        .read_exact_at(&mut head, 0)
        .unwrap();
    assert!(head.iter().all(|byte| *byte == 0), "a first MiB was left");
}
