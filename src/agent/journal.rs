//! `/var/lib/palmfarm/journal`: what the agent has done, and what must outlive a power cut.
//!
//! One line for each entry: the CRC-32 of the JSON in eight hexadecimal digits, a space, the JSON. Lines are only ever
//! added, each with one write and an fsync, and a line is added only when what it says is true. Whatever has no right
//! checksum – a line torn by a power cut, wherever it now stands – says nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

use palmfarm_protocol::report::{State, StepState};
use serde_json::{json, Value};

use crate::root::Root;

/// Where it lies.
pub const PATH: &str = "/var/lib/palmfarm/journal";

/// Bytes from which on what no longer matters is left behind: some years of daily boots.
const LARGE: usize = 256 << 10;

/// One thing that is true since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The agent began its `number`th run.
    Run {
        /// From 1 on.
        number: u32,
    },
    /// A step changed something, or could not.
    Step {
        /// Its name in the report.
        name: String,
        /// How it ended.
        state: StepState,
    },
    /// The network that has this digest has reached its router.
    Confirmed {
        /// See [`crate::confirm::digest`].
        network: String,
    },
    /// In the boot that has this identifier the network was given up.
    RolledBack {
        /// `/proc/sys/kernel/random/boot_id`.
        boot: String,
        /// Why.
        why: String,
    },
    /// A run ended.
    Finished {
        /// How the card stood then.
        state: State,
        /// Digest of the document that it was about.
        document: String,
    },
}

/// Every entry there is, oldest first.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Vec<Entry>,
    /// Whether the file ends in the middle of a line.
    torn: bool,
    bytes: usize,
}

impl Journal {
    /// Read it. One that is not there is an empty one.
    pub fn open(root: &Root) -> io::Result<Self> {
        match std::fs::read(root.at(PATH)) {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// What `bytes` of such a file say.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            entries: bytes.split(|byte| *byte == b'\n').filter_map(entry).collect(),
            torn: bytes.last().is_some_and(|last| *last != b'\n'),
            bytes: bytes.len(),
        }
    }

    /// Add an entry; it is on the medium when this returns.
    pub fn add(&mut self, root: &Root, entry: Entry) -> io::Result<()> {
        let path = root.at(PATH);
        let dir = path.parent().unwrap_or(root.dir());
        let new = !path.exists();
        if new {
            fs::create_dir_all(dir)?;
        }
        let mut text = line(&entry);
        if self.torn {
            text.insert(0, '\n');
            self.torn = false;
        }
        // One write that appends: the watch over the network adds its lines beside a run.
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if new {
            // The name is only on the medium once its directory is, and that directory's name likewise.
            for dir in dir.ancestors().take(2) {
                File::open(dir)?.sync_all()?;
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Leave behind what no question below is about, if there is a lot of it. Only where nobody else may add something
    /// meanwhile: the watch over the network does until it is confirmed.
    pub fn shorten(&mut self, root: &Root) -> io::Result<()> {
        if self.bytes <= LARGE {
            return Ok(());
        }
        let last = |wanted: fn(&Entry) -> bool| self.entries.iter().rfind(|entry| wanted(entry)).cloned();
        let kept = [
            last(|entry| matches!(entry, Entry::Confirmed { .. })),
            last(|entry| matches!(entry, Entry::RolledBack { .. })),
            last(|entry| matches!(entry, Entry::Finished { .. })),
            last(|entry| matches!(entry, Entry::Run { .. })),
        ];
        self.entries = kept.into_iter().flatten().collect();
        let text: String = self.entries.iter().map(line).collect();
        self.torn = false;
        self.bytes = text.len();
        root.write(PATH, text.as_bytes())
    }

    /// How many runs there were.
    #[must_use]
    pub fn runs(&self) -> u32 {
        let numbers = self.entries.iter().filter_map(|entry| match entry {
            Entry::Run { number } => Some(*number),
            _ => None,
        });
        numbers.max().unwrap_or(0)
    }

    /// Whether the network with this digest ever reached its router.
    #[must_use]
    pub fn confirmed(&self, digest: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Confirmed { network } if network == digest))
    }

    /// Why the network was given up in the boot that has this identifier; `None`: it was not.
    #[must_use]
    pub fn rolled_back(&self, this_boot: &str) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::RolledBack { boot, why } if boot == this_boot => Some(why.as_str()),
            _ => None,
        })
    }

    /// Whether the last run that came to an end made everything true that the document with this digest declares.
    #[must_use]
    pub fn done(&self, digest: &str) -> bool {
        let last = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Finished { state, document } => Some((*state, document)),
            _ => None,
        });
        last.is_some_and(|(state, document)| state == State::Done && document == digest)
    }
}

/// One line, with its end.
fn line(entry: &Entry) -> String {
    let value = match entry {
        Entry::Run { number } => json!({"run": number}),
        Entry::Step { name, state } => json!({"step": name, "state": state}),
        Entry::Confirmed { network } => json!({"confirmed": network}),
        Entry::RolledBack { boot, why } => json!({"rolled_back": boot, "why": why}),
        Entry::Finished { state, document } => json!({"finished": state, "document": document}),
    };
    let text = value.to_string();
    format!("{:08x} {text}\n", crc32(text.as_bytes()))
}

/// What one line says, without its end; `None` for a damaged one, and for one of a newer agent's.
fn entry(line: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(line).ok()?;
    let (sum, text) = text.split_once(' ')?;
    if sum.len() != 8 || u32::from_str_radix(sum, 16).ok()? != crc32(text.as_bytes()) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let word = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    if let Some(number) = value.get("run") {
        let number = u32::try_from(number.as_u64()?).ok()?;
        Some(Entry::Run { number })
    } else if let Some(name) = word("step") {
        let state = match word("state")?.as_str() {
            "unchanged" => StepState::Unchanged,
            "changed" => StepState::Changed,
            "failed" => StepState::Failed,
            "skipped" => StepState::Skipped,
            _ => return None,
        };
        Some(Entry::Step { name, state })
    } else if let Some(network) = word("confirmed") {
        Some(Entry::Confirmed { network })
    } else if let Some(boot) = word("rolled_back") {
        let why = word("why")?;
        Some(Entry::RolledBack { boot, why })
    } else {
        let state = match word("finished")?.as_str() {
            "done" => State::Done,
            "running" => State::Running,
            "failed" => State::Failed,
            _ => return None,
        };
        let document = word("document")?;
        Some(Entry::Finished { state, document })
    }
}

/// CRC-32 as in IEEE 802.3: polynomial 0x04c11db7, reflected.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    fn story() -> Vec<Entry> {
        vec![
            Entry::Run { number: 1 },
            Entry::RolledBack {
                boot: "0b".into(),
                why: "no DHCP – \"quoted\"\n".into(),
            },
            Entry::Run { number: 2 },
            Entry::Confirmed { network: "n1".into() },
            Entry::Step {
                name: "container web".into(),
                state: StepState::Changed,
            },
            Entry::Finished {
                state: State::Done,
                document: "d1".into(),
            },
        ]
    }

    /// The check value of the catalogue of parametrised CRC algorithms, CRC-32/ISO-HDLC.
    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn what_is_added_is_read_again() {
        let scratch = Scratch::new("journal", &[]);
        let mut journal = Journal::open(&scratch.0).unwrap();
        for entry in story() {
            journal.add(&scratch.0, entry).unwrap();
        }
        let read = Journal::open(&scratch.0).unwrap();
        assert_eq!(read.entries, story());
        assert_eq!(read.runs(), 2);
        assert!(read.confirmed("n1") && !read.confirmed("n2"));
        assert!(read.done("d1") && !read.done("d2"));
        assert_eq!(read.rolled_back("0b"), Some("no DHCP – \"quoted\"\n"));
        assert_eq!(read.rolled_back("0c"), None);
    }

    /// A power cut at any byte of any write: what was added before stays, what comes after is added, and nothing that
    /// was never added appears.
    #[test]
    fn a_torn_line_costs_only_itself() {
        let story = story();
        let whole: String = story.iter().map(line).collect();
        for cut in 0..=whole.len() {
            let scratch = Scratch::new("torn", &[]);
            let root = &scratch.0;
            let kept = &whole.as_bytes()[..cut];
            let complete = kept.split(|byte| *byte == b'\n').count() - 1;
            root.write(PATH, kept).unwrap();
            let mut journal = Journal::open(root).unwrap();
            // A line that lacks only its end is whole.
            let lines = journal.entries.len();
            assert!(lines == complete || lines == complete + 1, "cut at {cut}");
            assert_eq!(journal.entries, story[..lines], "cut at {cut}");
            let next = Entry::Confirmed {
                network: "after".into(),
            };
            journal.add(root, next.clone()).unwrap();
            let again = Journal::open(root).unwrap();
            assert_eq!(again.entries[..lines], story[..lines], "cut at {cut}");
            assert_eq!(again.entries[lines..], [next], "cut at {cut}");
        }
    }

    /// What a filesystem may leave of a block that never arrived: zeros, or what was there before.
    #[test]
    fn a_damaged_line_says_nothing() {
        let whole: String = story().iter().map(line).collect();
        for at in 0..whole.len() {
            for damage in [0, b'\n', b'0', 0xff] {
                let mut bytes = whole.clone().into_bytes();
                if bytes[at] == damage {
                    continue;
                }
                bytes[at] = damage;
                let story = story();
                let read = Journal::parse(&bytes);
                assert!(read.entries.len() < story.len(), "{damage} at {at}");
                assert!(
                    read.entries.iter().all(|entry| story.contains(entry)),
                    "{damage} at {at}"
                );
            }
        }
    }

    #[test]
    fn a_long_one_is_shortened_and_answers_as_before() {
        let scratch = Scratch::new("long", &[]);
        let root = &scratch.0;
        let mut text: String = story().iter().map(line).collect();
        let filler = line(&Entry::Step {
            name: "filler".into(),
            state: StepState::Failed,
        });
        while text.len() <= LARGE {
            text.push_str(&filler);
        }
        root.write(PATH, text.as_bytes()).unwrap();
        let mut journal = Journal::open(root).unwrap();
        journal.shorten(root).unwrap();
        journal.add(root, Entry::Run { number: 3 }).unwrap();
        let read = Journal::open(root).unwrap();
        assert!(std::fs::metadata(root.at(PATH)).unwrap().len() < 1000);
        assert_eq!(read.runs(), 3);
        assert!(read.confirmed("n1") && read.done("d1"));
    }
}
