//! `/var/lib/palmfarm/journal`: what the agent must still know after a power cut.
//!
//! One state file for each process that writes: `network.json` is written by the watch over the network, `run.json` by
//! the run that holds the lock. Each is a flat JSON object and is replaced in one step, so that a power cut leaves the
//! old one or the new one, and neither process can undo what the other wrote. A file is written only once what it says
//! is true.

use std::fs;
use std::io;

use palmfarm_protocol::report::State;
use serde_json::{json, Map, Value};

use crate::root::Root;

pub const PATH: &str = "/var/lib/palmfarm/journal";

/// An earlier agent had its journal in one file at [`PATH`]. It is moved here, and what it says holds until a state file
/// says otherwise.
const FORMER: &str = "/var/lib/palmfarm/journal.old";

/// A process that writes, and so a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    Watch,
    Run,
}

impl Writer {
    fn path(self) -> String {
        let name = match self {
            Self::Watch => "network.json",
            Self::Run => "run.json",
        };
        format!("{PATH}/{name}")
    }
}

/// How far a card is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Outside,
    /// It began to join with a daemon that was empty, and the end of that is not known: what its daemon has is nobody's.
    Joining,
    Member,
}

/// What the state files say.
#[derive(Debug, Default)]
pub struct Journal {
    watch: Map<String, Value>,
    run: Map<String, Value>,
}

impl Journal {
    /// Read the state files. One that does not exist or is damaged says nothing.
    pub fn open(root: &Root) -> io::Result<Self> {
        let former = former(root)?;
        let open = |writer: Writer| {
            let mut state = former.clone();
            state.extend(read(root, writer)?);
            Ok::<_, io::Error>(state)
        };
        Ok(Self {
            watch: open(Writer::Watch)?,
            run: open(Writer::Run)?,
        })
    }

    /// How many runs have begun.
    pub fn runs(&self) -> u32 {
        let runs = self.run.get("run").and_then(Value::as_u64);
        // The number is only shown to people.
        runs.and_then(|runs| u32::try_from(runs).ok()).unwrap_or(0)
    }

    /// Whether the network with this digest has reached its router at least once.
    pub fn confirmed(&self, digest: &str) -> bool {
        [&self.watch, &self.run]
            .iter()
            .any(|state| word(state, "confirmed") == Some(digest))
    }

    /// Why the network was rolled back in the boot with this identifier; `None` if it was not.
    pub fn rolled_back(&self, boot: &str) -> Option<&str> {
        // Boots whose identifier cannot be read must not look alike.
        if boot.is_empty() || word(&self.watch, "rolled_back") != Some(boot) {
            return None;
        }
        word(&self.watch, "why")
    }

    /// How far this card is in its cluster.
    pub fn stage(&self) -> Stage {
        match word(&self.run, "cluster") {
            Some("joining") => Stage::Joining,
            Some("member") => Stage::Member,
            _ => Stage::Outside,
        }
    }

    /// Whether the last run that came to its end made everything true that the document with this digest declares.
    pub fn done(&self, digest: &str) -> bool {
        word(&self.run, "finished") == Some("done") && word(&self.run, "document") == Some(digest)
    }
}

/// Count a run that begins, and return its number.
pub fn begin_run(root: &Root) -> io::Result<u32> {
    let number = Journal::open(root)?.runs().saturating_add(1);
    update(root, Writer::Run, json!({"run": number}))?;
    Ok(number)
}

/// Note that a run on the document with this digest ended in `state`.
pub fn finish_run(root: &Root, state: State, document: &str) -> io::Result<()> {
    update(
        root,
        Writer::Run,
        json!({"finished": state, "document": document}),
    )
}

/// Note how far this card is in its cluster.
pub fn set_stage(root: &Root, stage: Stage) -> io::Result<()> {
    let word = match stage {
        Stage::Outside => "outside",
        Stage::Joining => "joining",
        Stage::Member => "member",
    };
    update(root, Writer::Run, json!({"cluster": word}))
}

/// Note that the network with this digest has reached its router.
pub fn confirm(root: &Root, writer: Writer, network: &str) -> io::Result<()> {
    update(root, writer, json!({"confirmed": network}))
}

/// Note that the network was rolled back in the boot with this identifier (`/proc/sys/kernel/random/boot_id`).
pub fn roll_back(root: &Root, boot: &str, why: &str) -> io::Result<()> {
    update(root, Writer::Watch, json!({"rolled_back": boot, "why": why}))
}

/// Put `news` into the state file of `writer`; it is on the medium when this returns.
fn update(root: &Root, writer: Writer, news: Value) -> io::Result<()> {
    if root.at(PATH).is_file() {
        match fs::rename(root.at(PATH), root.at(FORMER)) {
            // The other writer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    let mut state = read(root, writer)?;
    state.extend(object(news));
    root.write(&writer.path(), format!("{}\n", Value::Object(state)).as_bytes())
}

fn read(root: &Root, writer: Writer) -> io::Result<Map<String, Value>> {
    Ok(parse(&bytes(root, &writer.path())?))
}

/// What a state file with these bytes says.
pub fn parse(bytes: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(bytes).map(object).unwrap_or_default()
}

/// What the journal of an earlier agent says: lines of a checksum, a space and a JSON object, of which a later one
/// overrides an earlier one. A line torn by a power cut is not JSON.
fn former(root: &Root) -> io::Result<Map<String, Value>> {
    let path = if root.at(PATH).is_file() { PATH } else { FORMER };
    let bytes = bytes(root, path)?;
    let lines = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.get(9..));
    Ok(lines.flat_map(parse).collect())
}

fn bytes(root: &Root, path: &str) -> io::Result<Vec<u8>> {
    match fs::read(root.at(path)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        read => read,
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn word<'a>(state: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    state.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    /// The journal of an earlier agent, with a line that a power cut tore in the middle.
    const LINES: &str = "6d3b1c2a {\"run\":1}\n5f0c11d2 {\"rolled_back\":\"0b\",\"why\":\"no DHCP\"}\n\
                         00000000 {\"run\":\n1a2b3c4d {\"run\":2}\n0c0c0c0c {\"confirmed\":\"n1\"}\n\
                         7e7e7e7e {\"step\":\"container web\",\"state\":\"changed\"}\n\
                         12345678 {\"document\":\"d1\",\"finished\":\"done\"}\n99999999 {\"confi";

    #[test]
    fn what_is_noted_is_read_again() {
        let scratch = Scratch::new("journal", &[]);
        let root = &scratch.0;
        let new = Journal::open(root).unwrap();
        assert!(new.runs() == 0 && !new.confirmed("") && !new.done(""));
        assert_eq!(begin_run(root).unwrap(), 1);
        roll_back(root, "0b", "no DHCP – \"quoted\"\n").unwrap();
        assert_eq!(begin_run(root).unwrap(), 2);
        confirm(root, Writer::Watch, "n1").unwrap();
        finish_run(root, State::Done, "d1").unwrap();
        let read = Journal::open(root).unwrap();
        assert_eq!(read.runs(), 2);
        assert!(read.confirmed("n1") && !read.confirmed("n2"));
        assert!(read.done("d1") && !read.done("d2"));
        assert_eq!(read.rolled_back("0b"), Some("no DHCP – \"quoted\"\n"));
        assert_eq!(read.rolled_back("0c"), None);
        finish_run(root, State::Failed, "d1").unwrap();
        assert!(!Journal::open(root).unwrap().done("d1"));
        assert_eq!(root.names(PATH), ["network.json", "run.json"]);
    }

    #[test]
    fn what_one_writer_knows_the_other_does_not_undo() {
        let scratch = Scratch::new("journal-writers", &[]);
        let root = &scratch.0;
        begin_run(root).unwrap();
        confirm(root, Writer::Run, "n1").unwrap();
        roll_back(root, "0b", "why").unwrap();
        finish_run(root, State::Done, "d1").unwrap();
        let read = Journal::open(root).unwrap();
        assert!(read.confirmed("n1") && read.rolled_back("0b").is_some() && read.done("d1"));
    }

    #[test]
    fn a_damaged_file_says_nothing() {
        for damage in ["", "{", "7", "\0\0\0\0", "{\"run\":-1,\"confirmed\":7}"] {
            let scratch = Scratch::new("journal-damaged", &[]);
            let root = &scratch.0;
            for writer in [Writer::Watch, Writer::Run] {
                root.write(&writer.path(), damage.as_bytes()).unwrap();
            }
            let read = Journal::open(root).unwrap();
            assert!(
                read.runs() == 0 && !read.confirmed("7") && !read.done("7"),
                "{damage:?}"
            );
            assert_eq!(begin_run(root).unwrap(), 1, "{damage:?}");
            assert_eq!(Journal::open(root).unwrap().runs(), 1, "{damage:?}");
        }
    }

    #[test]
    fn the_journal_of_an_earlier_agent_still_holds() {
        let scratch = Scratch::new("journal-former", &[(PATH, LINES)]);
        let root = &scratch.0;
        let same = |runs: u32| {
            let read = Journal::open(root).unwrap();
            assert_eq!(read.runs(), runs);
            assert!(read.confirmed("n1") && read.done("d1"));
            assert_eq!(read.rolled_back("0b"), Some("no DHCP"));
        };
        same(2);
        assert_eq!(begin_run(root).unwrap(), 3);
        same(3);
        // Power cuts at any point of the change: the file under its new name, and no state file yet.
        fs::remove_dir_all(root.at(PATH)).unwrap();
        same(2);
        confirm(root, Writer::Watch, "n2").unwrap();
        finish_run(root, State::Failed, "d1").unwrap();
        let read = Journal::open(root).unwrap();
        assert!(read.confirmed("n2") && !read.done("d1"));
        for cut in 0..LINES.len() {
            let scratch = Scratch::new("journal-cut", &[(PATH, &LINES[..cut])]);
            Journal::open(&scratch.0).unwrap();
            begin_run(&scratch.0).unwrap();
        }
    }
}
