//! The command line. Options are part of the contract with scripts: extend them, do not rename them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::farm::{farm_file, Account};

/// Printed at the end of every help text.
const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 refused, nothing was touched; 2 usage; 3 failed, the card or the output's name \
is untouched; 4 the card is spoiled: write it again; 5 what was waited for did not come in time; 130 interrupted.";

/// A server farm in the palm of your hand: one farm.yaml and Ubuntu's Raspberry Pi image in, a card out that boots into an LXD host.
#[derive(Debug, Parser)]
#[command(name = "palmfarm", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Palmfarm {
    /// Print JSON lines on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented farm.yaml
    Init(Init),
    /// List every problem of a farm
    Check(Check),
    /// Fetch what a farm takes from elsewhere, and pin it in palmfarm.lock
    Lock(Lock),
    /// Make the keys of a cluster
    #[command(subcommand)]
    Keys(Keys),
    /// Show what a card would hold, and the addresses that it will have
    Plan(Plan),
    /// Make a card image
    Build(Build),
    /// Write a card, and verify what was written
    Flash(Flash),
    /// Show what is on an image or a card
    Inspect(Inspect),
    /// Say what would keep the cards of an image from coming up
    Doctor(Doctor),
    /// List every block device, and why it may not be written
    Devices,
    /// Wait until the Pis and containers of a farm are on the LAN, and print their addresses
    Find(Find),
    /// Show how a Pi comes up, from cloud-init to the last container
    Watch(Watch),
    /// Bring a later farm to a running Pi: show what would change, ask, and change it
    Push(Push),
    /// List, download and verify base images
    #[command(subcommand)]
    Base(Base),
    /// Get images that a card carries for its containers
    #[command(subcommand)]
    Image(Image),
    /// Print the JSON Schema of farm.yaml
    Schema,
    /// Print the completions for a shell
    Completions(Completions),
    /// Write a man page for every command
    Man(Man),
}

/// `palmfarm keys`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key pair for the cluster and for every card that has none, in the file that `cluster.keys` names
    New(KeysNew),
}

/// `palmfarm keys new`
#[derive(Debug, Args)]
pub struct KeysNew {
    /// The farm file
    #[arg(default_value = farm_file::DEFAULT)]
    pub farm: PathBuf,
}

/// `palmfarm base`
#[derive(Debug, Subcommand)]
pub enum Base {
    /// List the images that a farm can name
    List,
    /// Download an image, or resume a download
    Fetch(Fetch),
    /// Compare an image with what Ubuntu published
    Verify(Verify),
    /// Show which image suits a board
    Suggest(Suggest),
    /// Remove from the cache what can be unpacked again
    Clean(Clean),
}

/// `palmfarm base clean`
#[derive(Debug, Args)]
pub struct Clean {
    /// Also remove downloads
    #[arg(long)]
    pub all: bool,
}

/// `palmfarm base fetch`
#[derive(Debug, Args)]
pub struct Fetch {
    /// A name that `palmfarm base list` lists, or a URL
    pub base: String,
    /// SHA-256 of the file at a URL; for a name it is known
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<crate::base::source::Sha256Sum>,
    /// A mirror of cdimage.ubuntu.com/releases
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
}

/// `palmfarm base verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The image as downloaded
    pub file: PathBuf,
    /// Compare with this list instead of the digests that palmfarm knows
    #[arg(long, value_name = "SHA256SUMS")]
    pub sums: Option<PathBuf>,
    /// The detached signature of the list, made with Ubuntu's key for images
    #[arg(long, value_name = "SHA256SUMS.gpg", requires = "sums")]
    pub signature: Option<PathBuf>,
}

/// `palmfarm base suggest`
#[derive(Debug, Args)]
pub struct Suggest {
    /// The board: 2, 3, 4, 5, zero2w, or what /proc/device-tree/model says on it
    #[arg(value_name = "BOARD")]
    pub board: Vec<String>,
}

/// `palmfarm image`
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Download the root filesystem that a distribution publishes, and make an image for `images:` of it
    Fetch(FetchImage),
}

/// `palmfarm image fetch`
#[derive(Debug, Args)]
pub struct FetchImage {
    /// Distribution and release, such as alpine/3.23
    pub name: String,
    /// The architecture of the base, as Debian names it
    #[arg(long, value_name = "ARCH", default_value = "armhf", value_parser = ["armhf", "arm64", "amd64"])]
    pub arch: String,
    /// The folder for its files; it is created if it does not exist
    #[arg(long, short, value_name = "DIR", default_value = "images")]
    pub output: PathBuf,
    /// SHA-256 that the file must have [default: what the publisher's list says]
    #[arg(long, value_name = "DIGEST")]
    pub sha256: Option<crate::base::source::Sha256Sum>,
    /// A mirror of dl-cdn.alpinelinux.org/alpine
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
}

/// `palmfarm completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `palmfarm man`
#[derive(Debug, Args)]
pub struct Man {
    /// The folder; it is created if it does not exist
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `palmfarm init`
#[derive(Debug, Args)]
pub struct Init {
    /// The file to write, which must not exist, or - to print it
    #[arg(default_value = farm_file::DEFAULT)]
    pub file: PathBuf,
    /// Ask nothing: take what this computer knows
    #[arg(long, short)]
    pub yes: bool,
    /// The Raspberry Pi: 2, 3, 4, 5, zero2w, or what /proc/device-tree/model says on it
    #[arg(long, value_name = "BOARD")]
    pub board: Option<String>,
    /// The Pi's host name
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// The login name on the Pi
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// A file of public SSH keys that may log in; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// An account at GitHub whose SSH keys may log in; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub github: Vec<String>,
    /// The same at Launchpad
    #[arg(long, value_name = "NAME")]
    pub launchpad: Vec<String>,
    /// The time zone, such as Europe/Vienna
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// The locale, such as en_GB.UTF-8, or none
    #[arg(long)]
    pub locale: Option<String>,
    /// dhcp, or the Pi's address with its prefix length, such as 192.168.1.10/24
    #[arg(long, value_name = "ADDRESS")]
    pub ipv4: Option<String>,
    /// The router, for a fixed address
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Option<String>,
    /// A first container, NAME or NAME=IMAGE, or none; may be given more than once
    #[arg(long, value_name = "CONTAINER")]
    pub container: Vec<String>,
}

/// `palmfarm check`
#[derive(Debug, Args)]
pub struct Check {
    /// The farm file
    #[arg(default_value = farm_file::DEFAULT)]
    pub farm: PathBuf,
}

/// `palmfarm lock`
#[derive(Debug, Args)]
pub struct Lock {
    /// The farm file
    #[arg(default_value = farm_file::DEFAULT)]
    pub farm: PathBuf,
    /// Fetch again what is pinned already: all of it, or one account, such as github:nina
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    #[allow(
        clippy::option_option,
        reason = "clap's form of an option whose value may be left out"
    )]
    pub update: Option<Option<Account>>,
}

/// `palmfarm plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// The farm file
    #[arg(default_value = farm_file::DEFAULT)]
    pub farm: PathBuf,
    /// One card of the fleet; without it, all of them
    #[arg(long)]
    pub card: Option<String>,
    /// A /64 of the home network in which to predict addresses, or `auto` for those that this computer has on its LAN; may
    /// be given more than once
    #[arg(long, value_name = "PREFIX/64|auto")]
    pub prefix: Vec<String>,
    /// How to print it; text, unless OUTPUT ends in .html
    #[arg(long, value_enum)]
    pub format: Option<PlanFormat>,
    /// Also print what each container is left with, and every file with its content
    #[arg(long)]
    pub files: bool,
    /// Write to this file instead of standard output
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    /// Show the page in a browser
    #[arg(long, requires = "output")]
    pub open: bool,
}

/// Forms of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// A table of names and addresses, and notes
    Text,
    /// One JSON document
    Json,
    /// AAAA records, to be included in a DNS zone; with `dns: serial:` a whole zone
    Zone,
    /// PTR records of one prefix, in the same two ways
    ZoneReverse,
    /// Lines for /etc/hosts
    Hosts,
    /// One self-contained page with the network drawn
    Html,
}

/// `palmfarm build`
#[derive(Debug, Args)]
pub struct Build {
    /// The farm file
    #[arg(default_value = farm_file::DEFAULT)]
    pub farm: PathBuf,
    /// One card of the fleet
    #[arg(long)]
    pub card: Option<String>,
    /// The image to write (.img, .img.xz or .img.zst), or a folder: one that is there, ends in / or is for a fleet; with .tar, not an image but an update
    /// for `palmfarm-agent apply` on a running card
    #[arg(long, short)]
    pub output: PathBuf,
    /// Decoding threads; the output does not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Do not download the base
    #[arg(long)]
    pub offline: bool,
}

/// `palmfarm flash`
#[derive(Debug, Args)]
pub struct Flash {
    /// A farm file (.yaml, .yml), or an image, compressed or not; a device alone is written from farm.yaml
    #[arg(value_name = "FARM|IMAGE", default_value = farm_file::DEFAULT)]
    pub source: PathBuf,
    /// The card, such as /dev/sdb; if it is not given, you pick one from a list
    pub device: Option<PathBuf>,
    /// One card of the fleet
    #[arg(long)]
    pub card: Option<String>,
    /// Do not ask before overwriting DEVICE
    #[arg(long, short, requires = "device")]
    pub yes: bool,
    /// Override one of the reasons against a disk; may be given more than once
    #[arg(long, value_name = "REASON", value_parser = ["internal", "large", "loop"])]
    pub allow: Vec<String>,
    /// Also write the blocks that are free in the filesystems
    #[arg(long)]
    pub full: bool,
    /// The SHA-256 that the file of an image must have
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// Decoding threads; what is written does not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
    /// Do not download the base
    #[arg(long)]
    pub offline: bool,
}

impl Flash {
    /// `palmfarm flash /dev/sdb` names the device only. Nothing below /dev is a farm or an image, so it cannot mean anything
    /// else.
    pub fn settle(&mut self) {
        if self.device.is_none() && self.source.starts_with("/dev") {
            let farm = PathBuf::from(farm_file::DEFAULT);
            self.device = Some(std::mem::replace(&mut self.source, farm));
        }
    }
}

/// `palmfarm inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// An image, compressed or not, or a card
    pub image: PathBuf,
    /// Print this file, or the names in this folder: `boot:PATH` or `root:PATH`
    pub path: Option<String>,
}

/// `palmfarm doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// An image, compressed or not, or a card
    pub image: PathBuf,
}

/// `palmfarm find`
#[derive(Debug, Args)]
pub struct Find {
    /// The farm file [default: farm.yaml in this folder; if there is none, find any Raspberry Pi]
    pub farm: Option<PathBuf>,
    /// One card of the fleet
    #[arg(long)]
    pub card: Option<String>,
    /// How long to wait, such as 90s, 10m or 1h
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    pub timeout: Duration,
    /// Look once, for a few seconds
    #[arg(long, conflicts_with = "timeout")]
    pub once: bool,
}

/// A Pi that is running.
#[derive(Debug, Args)]
pub struct RunningPi {
    /// The farm file [default: farm.yaml in this folder], then the Pi's address or name [default: as `find` finds it]
    #[arg(value_names = ["FARM", "HOST"], num_args = 0..=2)]
    pub words: Vec<String>,
    /// One card of the fleet
    #[arg(long)]
    pub card: Option<String>,
    /// Log in as this user [default: the farm's first user who may use sudo]
    #[arg(long)]
    pub user: Option<String>,
    /// How long to wait, such as 90s, 10m or 1h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub timeout: Duration,
}

/// `palmfarm watch`
#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    pub pi: RunningPi,
}

/// `palmfarm push`
#[derive(Debug, Args)]
pub struct Push {
    #[command(flatten)]
    pub pi: RunningPi,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before changing the Pi
    #[arg(long, short, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Do not download the base
    #[arg(long)]
    pub offline: bool,
}

/// A time as farm.yaml has it.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = crate::farm::decode::values::duration(text)?;
    Ok(Duration::from_secs(seconds.into()))
}
