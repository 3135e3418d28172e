//! Why a plan cannot be rendered onto a base.

use crate::base::{Arch, BaseRefusals, FstabFault};
use crate::edit::tree::{BadPath, Clash};
use crate::plan::images::Unfit;
use crate::plan::DocumentTooLong;

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template could not be filled in, or a value must not be put where it was to go.
    #[error("filling in {template} for {path}")]
    Template {
        /// The template.
        template: &'static str,
        /// Where its text was to lie.
        path: String,
        /// What is wrong.
        #[source]
        source: minijinja::Error,
    },
    /// Two parts of the plan want one path.
    #[error(transparent)]
    Clash(#[from] Clash),
    /// A carried image is not for the base.
    #[error(transparent)]
    Image(#[from] Unfit),
    /// A path that a card cannot have.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The base has something that cannot be undone on the card.
    #[error(transparent)]
    Base(#[from] BaseRefusals),
    /// The farm brings a fstab with which the card would not work on this base.
    #[error("the fstab of {origin} {fault}")]
    Fstab {
        /// Where it comes from: `overlay site`, `farm.yaml files: fstab`.
        origin: String,
        /// What it does.
        fault: FstabFault,
    },
    /// The base has no systemd.
    #[error("{release} has no systemd, and palmfarm's cards are systemd units")]
    NoSystemd {
        /// What the base calls itself.
        release: String,
    },
    /// The base lacks a program that cannot be done without.
    #[error("{release} has no {unit}, which {what}")]
    NoUnit {
        /// What the base calls itself.
        release: String,
        /// The unit.
        unit: &'static str,
        /// What it is for.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The base has no kernel command line to edit.
    #[error(
        "{release} has no cmdline.txt where its firmware would look, and `boot: cmdline:` has {words} words for it"
    )]
    NoCmdline {
        /// What the base calls itself.
        release: String,
        /// How many words.
        words: usize,
    },
    /// A word that cannot stand in a kernel command line.
    #[error("`boot: cmdline:` has {word:?}, and {why}")]
    CmdlineWord {
        /// The word.
        word: String,
        /// What is wrong with it.
        why: String,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line would have {bytes} bytes, and the kernel takes {most}")]
    CmdlineLength {
        /// Bytes that it would have.
        bytes: usize,
        /// `COMMAND_LINE_SIZE` less what the firmware adds.
        most: usize,
    },
    /// The base has no firmware configuration to edit.
    #[error("{release} has no config.txt or usercfg.txt, and `boot: config:` has {lines} lines for it")]
    NoConfig {
        /// What the base calls itself.
        release: String,
        /// How many lines.
        lines: usize,
    },
    /// A line that cannot stand in config.txt.
    #[error("`boot: config:` has {line:?}, and {why}")]
    ConfigLine {
        /// The line.
        line: String,
        /// What is wrong with it.
        why: String,
    },
    /// The agent's document is longer than the agent reads.
    #[error(transparent)]
    Document(#[from] DocumentTooLong),
    /// The agent does not run on the base.
    #[error("the agent for {arch} is {found}")]
    Agent {
        /// What the base needs.
        arch: Arch,
        /// What was given.
        found: String,
    },
}

impl RenderError {
    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image(error) => error.hint(),
            Self::Base(error) => Some(error.hint()),
            Self::Fstab { fault, .. } => Some(fault.hint("that fstab")),
            Self::NoSystemd { .. } => Some("take Ubuntu's or Debian's image".into()),
            Self::NoUnit { hint, .. } => Some((*hint).into()),
            Self::CmdlineLength { .. } => Some("shorten `boot: cmdline:`".into()),
            Self::Document(error) => Some(error.hint().into()),
            Self::Agent { .. } => Some("`cargo xtask dist` builds the agents of all architectures".into()),
            _ => None,
        }
    }
}
