//! Reads the facts of a base that rendering needs. It reads a handful of files and directories, each up to a limit, and
//! never writes. A file that cannot be understood is a missing fact and not an error.

use std::collections::BTreeSet;
use std::sync::Arc;

use palmfarm_protocol::paths::MANIFEST;

use crate::base::layout::Layout;
use crate::base::{Arch, BaseFacts, BaseText};
use crate::edit::block::{ReadAt, Window};
use crate::edit::fs::ext4::{Ext4Reader, Journal, Superblock};
use crate::edit::fs::fat::FatReader;
use crate::edit::fs::{FsError, VolumeReader};
use crate::edit::tree::{BadPath, CardPath, Volume};

/// The longest text that is read, in bytes: the kernel's command line, `config.txt`, os-release and fstab are far
/// shorter.
const LONGEST: u64 = 64 << 10;

/// The loader of glibc for each architecture, whose name is part of its ABI.
const LOADERS: [(Arch, &str); 3] = [
    (Arch::Armhf, "lib/ld-linux-armhf.so.3"),
    (Arch::Arm64, "lib/ld-linux-aarch64.so.1"),
    (Arch::Amd64, "lib64/ld-linux-x86-64.so.2"),
];

/// Where units are; on a base whose `/usr` is not merged, systemd's own are in `/lib`.
const UNITS: [&str; 2] = ["usr/lib/systemd/system", "lib/systemd/system"];

/// Where the library may be whose name contains systemd's version.
const SYSTEMD: [&str; 4] = [
    "usr/lib/systemd",
    "lib/systemd",
    "usr/lib/arm-linux-gnueabihf/systemd",
    "usr/lib/aarch64-linux-gnu/systemd",
];

/// Where netplan reads.
const NETPLAN: [&str; 3] = ["etc/netplan", "usr/lib/netplan", "lib/netplan"];

/// Why a base has no facts.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// A partition is outside the image.
    #[error("the {0} partition is not within the image")]
    Outside(Volume),
    /// A filesystem cannot be read.
    #[error("reading the {volume} partition")]
    Fs {
        /// Which.
        volume: Volume,
        #[source]
        source: FsError,
    },
    /// There is no loader of an architecture that cards are made for.
    #[error("the root filesystem has no loader of armhf, arm64 or amd64 below /lib, so it is not an Ubuntu image for the Pi")]
    Architecture,
    /// A path in this module is not valid.
    #[error(transparent)]
    Path(#[from] BadPath),
}

/// The FAT partition of a base, open for reading: a card whose root filesystem is beyond reading still has its report
/// there.
pub fn boot<M: ReadAt + Clone + 'static>(
    image: &M,
    layout: &Layout,
) -> Result<FatReader<Window<M>>, SurveyError> {
    let window = layout.boot.span.of(image.clone());
    let window = window.ok_or(SurveyError::Outside(Volume::Boot))?;
    FatReader::open(window).map_err(in_volume(Volume::Boot))
}

/// The two filesystems of a base, open for reading.
pub struct Volumes<M: ReadAt> {
    boot: FatReader<Window<M>>,
    root: Ext4Reader,
}

impl<M: ReadAt + Clone + 'static> Volumes<M> {
    /// Open both.
    pub fn open(image: &M, layout: &Layout) -> Result<Self, SurveyError> {
        let root = layout
            .root
            .span
            .of(image.clone())
            .ok_or(SurveyError::Outside(Volume::Root))?;
        Ok(Self {
            boot: boot(image, layout)?,
            root: Ext4Reader::open(root).map_err(in_volume(Volume::Root))?,
        })
    }

    /// What was done with changes that are only in the root filesystem's journal.
    pub fn journal(&self) -> Journal {
        self.root.journal()
    }

    /// The reader of `volume`.
    pub fn reader(&self, volume: Volume) -> &dyn VolumeReader {
        match volume {
            Volume::Boot => &self.boot,
            Volume::Root => &self.root,
        }
    }

    /// A text file, links followed; `None` if there is none, or if it is too long or not UTF-8.
    fn text(&self, volume: Volume, path: &str) -> Result<Option<BaseText>, SurveyError> {
        let path = CardPath::new(path)?;
        match self.reader(volume).read(&path, LONGEST) {
            Ok(bytes) => {
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                Ok(text.map(|text| BaseText { path, text }))
            }
            Err(FsError::TooLarge { .. }) => Ok(None),
            Err(source) => Err(SurveyError::Fs { volume, source }),
        }
    }

    /// The names in a directory of the root filesystem; none if there is no such directory.
    fn names(&self, path: &str) -> Result<Vec<String>, SurveyError> {
        match self.root.names(Some(&CardPath::new(path)?)) {
            Err(FsError::NotADirectory { .. }) => Ok(Vec::new()),
            names => names.map_err(in_volume(Volume::Root)),
        }
    }

    fn has(&self, path: &str) -> Result<bool, SurveyError> {
        let path = CardPath::new(path)?;
        Ok(self
            .root
            .stat_through(&path)
            .map_err(in_volume(Volume::Root))?
            .is_some())
    }
}

/// The facts of `image`.
pub fn survey<B>(image: &Arc<B>, layout: &Layout) -> Result<BaseFacts, SurveyError>
where
    B: ReadAt + ?Sized + 'static,
{
    let volumes = Volumes::open(image, layout)?;
    let mut arch = None;
    for (candidate, loader) in LOADERS {
        if volumes.has(loader)? {
            arch = arch.or(Some(candidate));
        }
    }
    let release = match volumes.text(Volume::Root, "etc/os-release")? {
        Some(text) => Some(text),
        None => volumes.text(Volume::Root, "usr/lib/os-release")?,
    };
    let release = release.map(|text| text.text).unwrap_or_default();
    let mut fat_seed = Vec::new();
    for name in ["user-data", "meta-data", "network-config"] {
        fat_seed.extend(volumes.text(Volume::Boot, name)?);
    }
    let (cmdline, config) = boot_texts(&volumes)?;
    let fstab = volumes
        .text(Volume::Root, "etc/fstab")?
        .map(|text| text.text)
        .unwrap_or_default();
    let superblock = superblock(image, layout)?;
    Ok(BaseFacts {
        arch: arch.ok_or(SurveyError::Architecture)?,
        release: os_release(&release, "PRETTY_NAME").unwrap_or_else(|| "an unnamed system".into()),
        systemd: systemd(&volumes)?,
        customized: volumes.has(MANIFEST.trim_start_matches('/'))?,
        fat_seed,
        cmdline,
        config,
        runs_rc_local: runs_rc_local(&volumes)?,
        netplan: netplan(&volumes)?,
        units: units(&volumes)?,
        boot_mount: boot_mount(&fstab).unwrap_or_else(|| "/boot/firmware".into()),
        newest: u32::try_from(superblock.written.max(superblock.made)).unwrap_or(u32::MAX),
    })
}

/// Bytes of the root filesystem's inode tables.
pub fn inode_tables<M: ReadAt>(image: &M, layout: &Layout) -> Result<u64, SurveyError> {
    let superblock = superblock(image, layout)?;
    Ok(u64::from(superblock.inodes).saturating_mul(u64::from(superblock.inode_size)))
}

fn superblock<M: ReadAt>(image: &M, layout: &Layout) -> Result<Superblock, SurveyError> {
    let window = layout
        .root
        .span
        .of(image)
        .ok_or(SurveyError::Outside(Volume::Root))?;
    Superblock::read(&window).map_err(in_volume(Volume::Root))
}

/// The command line that the firmware reads, and the file for the user's own keys of its configuration.
fn boot_texts<M: ReadAt + Clone + 'static>(
    volumes: &Volumes<M>,
) -> Result<(Option<BaseText>, Option<BaseText>), SurveyError> {
    let config = volumes.text(Volume::Boot, "config.txt")?;
    let usercfg = volumes.text(Volume::Boot, "usercfg.txt")?;
    // 18.04.4 to 20.04 include further files, and the last one that names a command line wins.
    let mut named = None;
    let mut prefix = None;
    for name in ["config.txt", "syscfg.txt", "nobtcfg.txt", "usercfg.txt"] {
        let Some(text) = volumes.text(Volume::Boot, name)? else {
            continue;
        };
        named = firmware_key(&text.text, "cmdline").or(named);
        prefix = firmware_key(&text.text, "os_prefix").or(prefix);
    }
    let name = named.as_deref().unwrap_or("cmdline.txt");
    let prefix = prefix.unwrap_or_default();
    let prefixed = format!("{prefix}{name}");
    let mut cmdline = None;
    for path in [
        prefixed.as_str(),
        &format!("current/{name}"),
        name,
        "cmdline.txt",
        "nobtcmd.txt",
    ] {
        // A name that the firmware would take need not be a path of ours.
        if cmdline.is_none() && CardPath::new(path).is_ok() {
            cmdline = volumes.text(Volume::Boot, path)?;
        }
    }
    Ok((cmdline, usercfg.or(config)))
}

/// The value of `key` in the firmware's configuration, outside the sections that hold only for a trial boot.
fn firmware_key(text: &str, key: &str) -> Option<String> {
    let mut section = "all";
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let value = line
            .split_once('=')
            .filter(|(name, _)| name.trim() == key && section != "tryboot");
        found = value.map(|(_, value)| value.trim().to_owned()).or(found);
    }
    found
}

fn systemd<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>) -> Result<Option<u32>, SurveyError> {
    for dir in SYSTEMD {
        let found = volumes.names(dir)?.iter().find_map(|name| {
            let version = name.strip_prefix("libsystemd-shared-")?.strip_suffix(".so")?;
            // Distributions append their own: `255.4-1ubuntu8`.
            version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn units<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>) -> Result<BTreeSet<String>, SurveyError> {
    let mut units = BTreeSet::new();
    for dir in UNITS {
        units.extend(volumes.names(dir)?);
    }
    Ok(units)
}

fn netplan<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>) -> Result<Vec<CardPath>, SurveyError> {
    let mut files = Vec::new();
    for dir in NETPLAN {
        // `/lib` is `/usr/lib` if `/usr` is merged, and a file must not be listed twice.
        if dir.starts_with("lib/") && volumes.has("usr/lib/netplan")? {
            continue;
        }
        // netplan reads only files with this ending, in small letters.
        for name in volumes
            .names(dir)?
            .iter()
            .filter(|name| name.strip_suffix(".yaml").is_some())
        {
            files.push(CardPath::new(&format!("{dir}/{name}"))?);
        }
    }
    Ok(files)
}

fn runs_rc_local<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>) -> Result<bool, SurveyError> {
    let Some(found) = volumes.text(Volume::Root, "etc/rc.local")? else {
        return Ok(false);
    };
    let stat = volumes
        .root
        .stat_through(&found.path)
        .map_err(in_volume(Volume::Root))?;
    let access = stat.and_then(|stat| stat.access);
    Ok(access.is_some_and(|access| access.mode & 0o111 != 0))
}

/// Where fstab(5) mounts the FAT partition.
fn boot_mount(fstab: &str) -> Option<String> {
    fstab
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut fields = line.split_whitespace();
            let (source, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
            let ours = source == "LABEL=system-boot" || (kind == "vfat" && target.starts_with("/boot"));
            ours.then(|| target.to_owned())
        })
}

/// The value of `key` in os-release(5).
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    // It is shown in messages and written to files of one line.
    let clean: String = value
        .trim()
        .trim_matches(['"', '\''])
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    Some(clean).filter(|value| !value.is_empty())
}

fn in_volume(volume: Volume) -> impl Fn(FsError) -> SurveyError {
    move |source| SurveyError::Fs { volume, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_of_a_command_line_wins() {
        assert_eq!(
            firmware_key(
                "[all]\nos_prefix=current/\n[tryboot]\nos_prefix=new/\n",
                "os_prefix"
            )
            .unwrap(),
            "current/"
        );
        assert_eq!(
            firmware_key("cmdline=a.txt\n[pi4]\ncmdline = b.txt\n", "cmdline").unwrap(),
            "b.txt"
        );
        assert_eq!(firmware_key("#cmdline=a.txt\n", "cmdline"), None);
    }

    #[test]
    fn fstab_says_where_the_firmware_is() {
        let check =
            |fstab: &str, expect: Option<&str>| assert_eq!(boot_mount(fstab).as_deref(), expect, "{fstab}");
        check(
            "LABEL=writable / ext4 defaults 0 0\nLABEL=system-boot\t/boot/firmware\tvfat\tdefaults\t0 1\n",
            Some("/boot/firmware"),
        );
        check(
            "# LABEL=system-boot /x vfat\n/dev/mmcblk0p1 /boot vfat defaults 0 2\n",
            Some("/boot"),
        );
        check("LABEL=writable / ext4 defaults 0 0\n", None);
    }

    #[test]
    fn a_release_is_one_clean_line() {
        assert_eq!(
            os_release("ID=x\nPRETTY_NAME=\"Ubuntu 22.04.5 LTS\"\n", "PRETTY_NAME").unwrap(),
            "Ubuntu 22.04.5 LTS"
        );
        assert_eq!(
            os_release("PRETTY_NAME=\"a\u{1b}[2Jb\"\n", "PRETTY_NAME").unwrap(),
            "a[2Jb"
        );
        assert_eq!(os_release("NAME=x\n", "PRETTY_NAME"), None);
    }
}
