//! The farm that its owner declares in `farm.yaml`. [`load`] reads and checks that file and the files that it names, and
//! reports every problem at once. Only this room reads files on behalf of a farm; it writes nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::locate::{BaseRef, BaseRequest};
use crate::host::folder::Folder;
use crate::text_file::{self, NotText};
use node::{Node, Span};
use passwords::Environment;
use problem::{Problem, ProblemLine, Problems, Severity};
use source::{Source, Told};
use understood::Understood;

pub use farm_file::FarmFileError;
pub use model::*;
pub use resolve::{NoSuchCard, ResolvedCard};
pub use schema::SCHEMA;

/// A further check of a farm. It gets what was read, the document that it was read from, and the folder that paths are
/// relative to.
pub type Judge<'j> = &'j dyn Fn(&Farm, &Node, &Folder, &mut Problems);

/// Read the farm in `path`, and check it and all that it names; `judge` may report more. Passwords may come from
/// `environment`, and `~` is its `HOME`.
///
/// # Errors
/// The file cannot be read, or there are errors in it.
pub fn load(
    path: &Path,
    environment: Environment<'_>,
    judge: Option<Judge<'_>>,
) -> Result<LoadedFarm, LoadError> {
    load_as(path, environment, judge, ClusterKeys::Needed)
}

/// The same for whoever makes the keys of its cluster, which need not be there yet.
///
/// # Errors
/// As those of [`load`].
pub fn load_without_keys(path: &Path, environment: Environment<'_>) -> Result<LoadedFarm, LoadError> {
    load_as(path, environment, None, ClusterKeys::ToBeMade)
}

/// Whether the keys of the farm's cluster must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClusterKeys {
    Needed,
    ToBeMade,
}

fn load_as(
    path: &Path,
    environment: Environment<'_>,
    judge: Option<Judge<'_>>,
    keys: ClusterKeys,
) -> Result<LoadedFarm, LoadError> {
    let bytes = farm_file::read(path)?;
    let dir = path
        .parent()
        .filter(|dir| *dir != Path::new(""))
        .unwrap_or(Path::new("."));
    parse_as(&path.display().to_string(), &bytes, dir, environment, judge, keys).map_err(LoadError::Refused)
}

/// The same for the farm in `bytes`, which came from a file called `name` in `dir`.
///
/// # Errors
/// There are errors in it.
pub fn parse(
    name: &str,
    bytes: &[u8],
    dir: &Path,
    environment: Environment<'_>,
    judge: Option<Judge<'_>>,
) -> Result<LoadedFarm, Refused> {
    parse_as(name, bytes, dir, environment, judge, ClusterKeys::Needed)
}

fn parse_as(
    name: &str,
    bytes: &[u8],
    dir: &Path,
    environment: Environment<'_>,
    judge: Option<Judge<'_>>,
    keys: ClusterKeys,
) -> Result<LoadedFarm, Refused> {
    let mut problems = Problems::default();
    let mut text = FarmText {
        source: Source {
            name: name.into(),
            text: String::new(),
            secrets: Vec::new(),
        },
        document: Node::nothing(),
    };
    match text_file::decode(bytes) {
        Ok(utf8) => text.source.text = utf8,
        Err(error) => {
            let at = match error {
                NotText::Utf8 { at } => at,
                NotText::BrokenUtf16 | NotText::Unmarked => 0,
            };
            text.source.text = String::from_utf8_lossy(bytes).into_owned();
            let problem = Problem::error(Span { start: at, end: at }, format!("the farm {error}"));
            problems.push(problem.hint(error.hint()));
        }
    }
    let document = problems
        .is_empty()
        .then(|| yaml::parse(&text.source.text, &mut problems))
        .flatten();
    if let Some(problem) = document
        .as_ref()
        .and_then(|document| foreign::recognize(&text.source.text, document))
    {
        problems.push(problem);
    }
    let document = document.filter(|_| problems.is_empty());
    let Some(document) = document else {
        text.source.secrets = suspects(&text.source.text);
        problems.sort();
        return Err(Refused(Box::new(Report { text, problems })));
    };
    text.source.secrets = decode::secrets(&document);
    let home = environment("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute());
    let dir = Folder::new(dir, home);
    let mut farm = decode::farm(&document, &mut problems);
    if let Some(farm) = &mut farm {
        let read = Understood::new(&document, &problems);
        let base = BaseRef::new(&farm.base).looks_like().unwrap_or_default();
        check::farm(farm, &base, &read, &mut problems);
        files::check(farm, &base, &read, &dir, environment, &mut problems);
        if keys == ClusterKeys::Needed {
            files::cluster_keys(farm, &read, &dir, &mut problems);
        }
        if problems.errors() == 0 {
            macs::check(farm, &document, &mut problems);
        }
        if let Some(judge) = judge {
            judge(farm, &document, &dir, &mut problems);
        }
    }
    text.document = document;
    problems.sort();
    match farm {
        Some(farm) if problems.errors() == 0 => Ok(LoadedFarm {
            farm,
            dir,
            text,
            warnings: problems,
        }),
        _ => Err(Refused(Box::new(Report { text, problems }))),
    }
}

/// A farm without errors.
#[derive(Clone, Debug)]
pub struct LoadedFarm {
    /// The farm.
    pub farm: Farm,
    /// The folder of its file: what paths in it are relative to.
    pub dir: Folder,
    /// The text of the file, and the places of the farm's parts in it.
    pub text: FarmText,
    /// Problems that do not prevent a card.
    pub warnings: Problems,
}

/// The text of a farm file, as problems point into it.
#[derive(Clone, Debug)]
pub struct FarmText {
    source: Source,
    document: Node,
}

/// Why there is no farm.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read, or it is not a farm's.
    #[error(transparent)]
    File(#[from] FarmFileError),
    #[error("{0}")]
    Refused(Refused),
}

/// A farm file and its problems, at least one of them an error.
#[derive(Debug)]
pub struct Refused(Box<Report>);

#[derive(Debug)]
struct Report {
    text: FarmText,
    problems: Problems,
}

/// The largest file that goes onto a card whole, in bytes; archives are streamed.
pub const LARGEST_FILE: u64 = 64 << 20;

/// The largest image that a card carries, in bytes: it is in memory while the card is made. Ubuntu's for containers
/// have 100 to 250 MB.
pub const LARGEST_IMAGE: u64 = 512 << 20;

impl LoadedFarm {
    /// The base that its cards are made from.
    pub fn base(&self) -> BaseRequest<'_> {
        BaseRequest {
            base: BaseRef::new(&self.farm.base),
            sha256: self.farm.sha256.as_deref(),
            dir: &self.dir,
        }
    }

    /// What only the opened base tells of the farm: it is like the image of Ubuntu's that is called `base`. They are warnings,
    /// since who changed Ubuntu's image may have changed just that.
    pub fn warnings_on(&self, base: &str) -> Problems {
        let none = Problems::default();
        let mut found = Problems::default();
        check::farm(
            &self.farm,
            base,
            &Understood::new(&self.text.document, &none),
            &mut found,
        );
        let known = self.warnings.list();
        let mut new = Problems::default();
        for problem in found.list().iter().filter(|problem| !known.contains(problem)) {
            let severity = Severity::Warning;
            new.push(Problem {
                severity,
                ..problem.clone()
            });
        }
        new.sort();
        new
    }

    /// Where the file is that the farm names as `named`.
    pub fn path(&self, named: &str) -> PathBuf {
        self.dir.join(named)
    }

    /// The accounts whose SSH keys it names.
    pub fn accounts(&self) -> BTreeSet<&Account> {
        self.key_sources().map(|(account, _)| account).collect()
    }

    /// Those of its accounts whose keys are not pinned in palmfarm.lock: its cards would not have them.
    pub fn unpinned(&self) -> BTreeSet<&Account> {
        let unpinned = self.key_sources().filter(|(_, keys)| keys.lines.is_empty());
        unpinned.map(|(account, _)| account).collect()
    }

    fn key_sources(&self) -> impl Iterator<Item = (&Account, &SshKeys)> {
        let keys = self.farm.users.iter().flat_map(|user| &user.ssh_keys);
        keys.filter_map(|keys| match &keys.source {
            KeySource::Account(account) => Some((account, keys)),
            KeySource::Farm | KeySource::File(_) => None,
        })
    }
}

impl FarmText {
    /// Where a person should look for what `place` leads to.
    pub fn locate(&self, place: &[node::Step<'_>]) -> Span {
        self.document.locate(place)
    }

    /// `problems` for people: each with its line and a caret, the last line with the number of those not shown.
    pub fn render(&self, problems: &Problems) -> String {
        let told = self.tell(problems, source::WIDTH);
        let more = self.more(problems).map(|line| format!("{line}\n"));
        told.iter().map(Told::to_string).chain(more).collect()
    }

    /// The same in parts, for a screen of so many `columns`; [`Self::more`] has the last line.
    pub fn tell(&self, problems: &Problems, columns: usize) -> Vec<Told> {
        self.source.tell(problems, columns)
    }

    /// How many problems are not shown, if there are any.
    pub fn more(&self, problems: &Problems) -> Option<String> {
        let more = problems.more();
        (more > 0).then(|| format!("{}: and {more} more", self.source.name))
    }

    /// `problems` as they go into lines of JSON.
    pub fn lines<'a>(&'a self, problems: &'a Problems) -> impl Iterator<Item = ProblemLine<'a>> {
        problems
            .list()
            .iter()
            .map(|problem: &Problem| self.source.line(problem))
    }
}

impl Refused {
    /// The text that the problems point into.
    pub fn text(&self) -> &FarmText {
        &self.0.text
    }

    /// The problems.
    pub fn problems(&self) -> &Problems {
        &self.0.problems
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.0.problems.errors();
        let plural = if errors == 1 { "error" } else { "errors" };
        write!(f, "{} has {errors} {plural}", self.0.text.source.name)
    }
}

/// What may be a secret in a text that could not be read as YAML: the rest of each line after a password, a hash or
/// the head of a private key.
fn suspects(text: &str) -> Vec<Span> {
    let mut found = Vec::new();
    let mut start = 0_usize;
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        let at = ["passw", "hash", "private key", "$"]
            .iter()
            .filter_map(|word| lower.find(word).map(|at| at.saturating_add(word.len())))
            .min();
        let end = start.saturating_add(line.len());
        if let Some(at) = at {
            found.push(Span {
                start: start.saturating_add(at),
                end,
            });
        }
        start = end;
    }
    found
}

// The rooms of the farm.
pub mod accounts;
pub mod addresses;
pub mod assets;
mod carried;
pub mod carry;
mod check;
pub mod cluster_keys;
pub(crate) mod credentials;
pub mod deb;
pub mod declared;
pub(crate) mod decode;
pub mod farm_file;
mod files;
mod foreign;
mod guarded;
pub mod host_keys;
pub mod image_aliases;
mod keys;
pub mod lock;
pub mod lxd_image;
mod lxd_keys;
mod macs;
mod model;
pub mod node;
pub mod overlay;
mod packing;
pub mod passwords;
mod placement;
pub mod problem;
mod resolve;
mod schema;
mod scripts;
pub(crate) mod secret;
mod snap;
pub mod source;
pub mod stack;
pub(crate) mod suggest;
mod timezones;
mod understood;
mod yaml;
