//! Why no card is made from a base that is not what Ubuntu publishes: each reason, and what the person can do. What can
//! be undone on the card is not here; nothing here reads an image.

use std::fmt;

use super::facts::{LocaleSetting, SshMatch};
use crate::edit::tree::CardPath;
use crate::text::printable;

/// What is wrong with a fstab(5), whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FstabFault {
    #[error(
        "mounts {} at {}, and the image has no such filesystem",
        printable(source_name),
        printable(target)
    )]
    NoSuchFilesystem { source_name: String, target: String },
    #[error("mounts another filesystem at {}, which would hide what palmfarm puts there", printable(.0))]
    MountsOver(String),
    #[error("keeps {} in memory, so what the Pi makes there would be lost at each boot", printable(.0))]
    InMemory(String),
    #[error("mounts the root filesystem with the options {}: {why}", printable(options))]
    RootOption {
        options: String,
        /// The one that matters.
        option: String,
        why: &'static str,
    },
}

impl FstabFault {
    /// What the person can do with the file, which is called `fstab`.
    pub fn hint(&self, fstab: &str) -> String {
        match self {
            Self::NoSuchFilesystem { .. } => {
                format!("add `nofail` to that line of {fstab}, or remove the line")
            }
            Self::MountsOver(_) | Self::InMemory(_) => format!("remove that line of {fstab}"),
            Self::RootOption { option, .. } => {
                format!("remove `{}` from the line for `/` of {fstab}", printable(option))
            }
        }
    }
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseRefusal {
    #[error("its config.txt names {} as the kernel command line, and there is no such file", printable(.0))]
    NoSuchCmdline(String),
    #[error("its config.txt names another kernel command line for some boards: {}", printable(&.0.join(", ")))]
    SeveralCmdlines(Vec<String>),
    #[error("its first FAT partition is {first}, from which a Pi starts, and not {edited}, which has the label of Ubuntu's")]
    NotFirstFat { first: u32, edited: u32 },
    #[error("its autoboot.txt lets a Pi start from partition {}, and not from {edited}, which has the label of Ubuntu's", printable(number))]
    BootsFromAnother { number: String, edited: u32 },
    #[error(
        "{path} has {lines} lines of words below its first line, and the firmware reads the first line alone"
    )]
    BelowFirstLine { path: CardPath, lines: usize },
    #[error("its {0} on the FAT partition is not UTF-8, so palmfarm cannot edit it")]
    NotText(CardPath),
    #[error("the kernel command line has {}, {why}", printable(word))]
    KernelWord { word: String, why: &'static str },
    #[error(
        "the kernel command line has {}, and the root filesystem is {}",
        printable(word),
        printable(root)
    )]
    NoSuchRoot {
        word: String,
        /// How it is found: `LABEL=writable`.
        root: String,
    },
    #[error(
        "the kernel command line has no root=, and the root filesystem is {}",
        printable(root)
    )]
    NoRoot {
        /// How it is found: `LABEL=writable`.
        root: String,
    },
    #[error("its {path} {what}")]
    InTheWay {
        path: CardPath,
        /// What it does, for people.
        what: &'static str,
        /// What the person can do.
        hint: &'static str,
    },
    #[error("its {path} sets {}, which may change what cloud-init does on the card", printable(&keys.join(", ")))]
    CloudSettings { path: CardPath, keys: Vec<String> },
    #[error("its fstab {0}")]
    Fstab(FstabFault),
    #[error(
        "its unit {} mounts another filesystem at {}, which would hide what palmfarm puts there",
        printable(unit),
        printable(target)
    )]
    MountUnit { unit: String, target: String },
    #[error("line {line} of its {path} keeps the module {module} from being loaded, without which {what}")]
    BlockedModule {
        path: CardPath,
        line: usize,
        module: String,
        /// What does not work then.
        what: &'static str,
    },
    #[error("its {path} sets {}, which cloud-init reads after palmfarm's own settings", keys.join(", "))]
    OverruledSettings { path: CardPath, keys: Vec<&'static str> },
    #[error("its /etc/cloud/cloud.cfg does not let cloud-init run {}", .0.join(", "))]
    NoModules(Vec<&'static str>),
    #[error("cloud-init has left {0} there, so it would take this card's settings for applied")]
    UsedInstance(CardPath),
    #[error("it has an account {} already, and cloud-init would leave that one as it is", printable(.0))]
    Account(String),
    #[error("it has a group {} already, so useradd would refuse to make the user", printable(.0))]
    Group(String),
    #[error("it has a /home/{} already, and useradd would leave that to whom it belongs", printable(.0))]
    Home(String),
    #[error("its account {} has the number {number} already, so useradd would refuse it to {user}", printable(.name))]
    Number { number: u32, name: String, user: String },
    #[error("its /etc/passwd has a password for {}, where `x` should be", printable(.0))]
    PasswordInPasswd(String),
    #[error("its {path} sets {key}, with which others than the farm's users may log in")]
    SshLogin { path: CardPath, key: &'static str },
    #[error("its {path} sets {key}, with which the farm's users may not be able to log in")]
    SshLockout {
        path: CardPath,
        key: &'static str,
        only_for: SshMatch,
    },
    #[error("its {path} sets {key}, with which sshd would not have the host key that the card makes or the farm brings")]
    SshHostKey { path: CardPath, key: &'static str },
    #[error(
        "its {path} sets {}, and palmfarm does not know who could log in with it",
        printable(key)
    )]
    SshUnknown { path: CardPath, key: String },
    #[error(
        "line {line} of its {path} sets {key} {}, which would count in place of `ssh: {{password: {password}}}` of the farm",
        if *password { "no" } else { "yes" }
    )]
    SshPasswords {
        path: CardPath,
        line: usize,
        key: &'static str,
        /// What the farm says.
        password: bool,
    },
    #[error(
        "line {} of its {} sets {}={}, which would count in place of `locale: {locale}` of the farm",
        said.line,
        said.path,
        printable(&said.key),
        printable(&said.value)
    )]
    Locale {
        said: LocaleSetting,
        /// What the farm says.
        locale: String,
    },
    #[error("its {path} cannot be changed (it has the attribute of `chattr +{attribute}`), and the first boot has to")]
    Unchangeable { path: CardPath, attribute: char },
    #[error("its {path} masks {}, which every card needs", path.name())]
    PackagedMask { path: CardPath },
    #[error("it has no SSH server, so {} could not log in with a key", users.join(", "))]
    NoSshServer { users: Vec<String> },
    #[error("it has no sudo, so {} could not become root", users.join(", "))]
    NoSudo { users: Vec<String> },
    #[error("a container daemon was in use on it ({0}): its containers and the clients that it trusts would be on every card")]
    UsedDaemon(CardPath),
}

impl BaseRefusal {
    /// What the person can do.
    pub fn hint(&self) -> String {
        match self {
            Self::NoSuchCmdline(_) | Self::SeveralCmdlines(_) => {
                "name one file by `cmdline=` in the section [all] of config.txt, on the FAT partition of the base".into()
            }
            Self::NotFirstFat { first, .. } => {
                format!("delete partition {first} from the base: `sfdisk --delete IMAGE {first}`")
            }
            Self::BootsFromAnother { .. } => {
                "remove autoboot.txt from the FAT partition of the base, or the line in it".into()
            }
            Self::BelowFirstLine { path, .. } => format!(
                "put all words of {path}, on the FAT partition of the base, into its first line, or remove the others"
            ),
            Self::NotText(path) => format!("save {path}, on the FAT partition of the base, as UTF-8 text"),
            Self::KernelWord { word, .. } => format!(
                "remove {} from cmdline.txt, on the FAT partition of the base",
                printable(word)
            ),
            Self::NoSuchRoot { root, .. } | Self::NoRoot { root } => format!(
                "write `boot: {{cmdline: [\"root={}\"]}}` in farm.yaml",
                printable(root)
            ),
            Self::Fstab(fault) => {
                let hint = fault.hint("the base's fstab");
                match fault {
                    FstabFault::NoSuchFilesystem { .. } => {
                        format!("{hint}; or give the card another fstab with `files: {{/etc/fstab: FILE}}`")
                    }
                    _ => hint,
                }
            }
            Self::InTheWay { path, hint, .. } => format!("{hint} {path} of the base"),
            Self::CloudSettings { path, keys } => format!(
                "remove {} from {path} of the base, and declare in farm.yaml what the card needs",
                printable(&keys.join(", "))
            ),
            Self::MountUnit { unit, .. } => format!("remove the unit {} from the base, or mask it", printable(unit)),
            Self::BlockedModule { path, line, .. } | Self::SshPasswords { path, line, .. } => {
                format!("remove line {line} of {path} of the base")
            }
            Self::OverruledSettings { path, .. } => {
                format!("remove {path} from the base, or give it a name that sorts before 99-palmfarm")
            }
            Self::NoModules(_) => {
                "put these modules back into the base's /etc/cloud/cloud.cfg, or use the image as Ubuntu publishes it"
                    .into()
            }
            Self::UsedInstance(path) => format!("remove {path} from the base, or give the card another name"),
            Self::Account(name) | Self::Group(name) => format!(
                "give the user another name, or remove {} from the base",
                printable(name)
            ),
            Self::Home(name) => format!(
                "give the user another name, or remove /home/{} from the base",
                printable(name)
            ),
            Self::Number { name, .. } => format!(
                "give the user another `uid`, or remove {} from the base",
                printable(name)
            ),
            Self::PasswordInPasswd(_) => "run `pwconv` in the base".into(),
            Self::SshLogin { path, key } | Self::SshLockout { path, key, .. } | Self::SshHostKey { path, key } => {
                format!("remove the line with {key} from {path} of the base")
            }
            Self::SshUnknown { path, key } => {
                format!("remove the line with {} from {path} of the base", printable(key))
            }
            Self::Locale { said, .. } => {
                format!("remove line {} of {} of the base, or leave `locale` out", said.line, said.path)
            }
            Self::Unchangeable { path, attribute } => format!("run `chattr -{attribute} {path}` in the base"),
            Self::PackagedMask { path } => {
                format!("remove {path} from the base, and install the package of {} again", path.name())
            }
            Self::NoSshServer { .. } => {
                "install openssh-server in the base, or carry it with `carry: {packages: […]}`; or leave out `ssh_keys`"
                    .into()
            }
            Self::NoSudo { .. } => {
                "install sudo in the base, or carry it with `carry: {packages: […]}`; or leave out `sudo` of the users"
                    .into()
            }
            Self::UsedDaemon(_) => "use the image as Ubuntu publishes it".into(),
        }
    }
}

/// All reasons why a base is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRefusals {
    /// What the base calls itself.
    pub release: String,
    /// At least one.
    pub reasons: Vec<BaseRefusal>,
}

impl fmt::Display for BaseRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        let release = printable(&self.release);
        write!(
            f,
            "no card of this farm can be made from the base ({release}): {}",
            reasons.join("; ")
        )
    }
}

impl std::error::Error for BaseRefusals {}

impl BaseRefusals {
    /// What the person can do about each.
    #[must_use]
    pub fn hint(&self) -> String {
        let mut hints: Vec<String> = Vec::new();
        for hint in self.reasons.iter().map(BaseRefusal::hint) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        hints.join("; ")
    }
}
