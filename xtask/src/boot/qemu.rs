//! The Pi's stand-in: one of QEMU's boards with a card in it and a cable to the router.
//!
//! The card is opened for writing, so the caller passes a copy. The machine runs in the router's namespaces and ends with
//! them.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use fs_err as fs;
use xshell::cmd;

use super::deadline::Deadline;
use super::router::{self, Router};
use crate::deps::Package;
use crate::sh;

/// What the machine needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[
    ("qemu-system-arm", "qemu-system-arm"),
    ("qemu-system-arm", "qemu-system-aarch64"),
];

/// Where the card's writes are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disk<'a> {
    /// In the image.
    Plain,
    /// In the image, and together with every flush in a log at this path.
    Recorded(&'a Path),
}

/// A board that QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Board {
    /// Not a real board: disk and NIC are virtio's. The quickest.
    Virt,
    /// The Raspberry Pi 2 B, with its own SD controller and its NIC on USB.
    Raspi2b,
}

impl Board {
    /// As on QEMU's command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Virt => "virt",
            Self::Raspi2b => "raspi2b",
        }
    }

    /// The MAC of the NIC whose cable is in this socket of the router: the vendor's prefix, then a number that is easy to
    /// find in an address. QEMU's NIC on USB always has 40 as its first byte (hw/usb/dev-network.c).
    pub(crate) fn mac(self, socket: u8) -> String {
        let first = match self {
            Self::Virt => "b8",
            Self::Raspi2b => "40",
        };
        format!("{first}:27:eb:12:34:{:02x}", 0x56_u8.saturating_add(socket))
    }

    /// The device tree that the Pi's firmware would pick from the card; QEMU makes its own for `virt`.
    pub(crate) fn device_tree(self) -> Option<&'static str> {
        match self {
            Self::Virt => None,
            Self::Raspi2b => Some("bcm2836-rpi-2-b.dtb"),
        }
    }
}

/// What a power-on needs.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) board: Board,
    /// Of the `virt` board.
    pub(crate) cores: u8,
    /// Of the router, for the cable.
    pub(crate) socket: u8,
    /// The emulator of the base's architecture, and its `virt` board.
    pub(crate) machine: &'a [&'a str],
    /// A raw image, which is written to.
    pub(crate) card: &'a Path,
    pub(crate) disk: Disk<'a>,
    /// The Pi's firmware would load it from the card; QEMU needs a file.
    pub(crate) kernel: &'a Path,
    /// It has the driver of QEMU's disk.
    pub(crate) initrd: &'a Path,
    /// For a board for which QEMU does not make one.
    pub(crate) device_tree: Option<&'a Path>,
    /// From [`command_line`].
    pub(crate) command_line: &'a str,
    /// The file for everything that the kernel and systemd print.
    pub(crate) serial: &'a Path,
}

/// A machine that was powered on.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Child,
    serial: PathBuf,
    errors: PathBuf,
}

impl Machine {
    /// Power on.
    pub(crate) fn start(router: &Router, parts: &Parts<'_>) -> Result<Self> {
        let [emulator, virt @ ..] = parts.machine else {
            bail!("no emulator is named")
        };
        let (mac, tap) = (parts.board.mac(parts.socket), router::tap(parts.socket));
        let (board, devices) = match parts.board {
            Board::Virt => {
                let devices = format!(
                    "-smp {} -m 1024 -device virtio-blk-device,drive=card -device virtio-rng-device \
                     -device virtio-net-device,netdev=lan,mac={mac}",
                    parts.cores
                );
                (virt, devices)
            }
            // It always has four cores and a GiB.
            Board::Raspi2b => (
                &["-M", "raspi2b"][..],
                format!("-device usb-net,netdev=lan,mac={mac}"),
            ),
        };
        let devices = devices.split(' ');
        let drive = drive(parts.board, parts.card, parts.disk)?;
        let tree = parts
            .device_tree
            .map(|tree| [Path::new("-dtb"), tree])
            .into_iter()
            .flatten();
        let Parts {
            kernel,
            initrd,
            command_line,
            serial,
            ..
        } = parts;
        // Without -no-reboot: systemd-fsck asks for a restart after it has repaired a mounted root.
        let qemu = cmd!(
            router,
            "{emulator} {board...} -nodefaults -display none -monitor none -serial file:{serial} {drive...}
                -netdev tap,id=lan,ifname={tap},script=no,downscript=no {devices...} {tree...}
                -kernel {kernel} -initrd {initrd} -append {command_line}"
        );
        let errors = parts.serial.with_extension("qemu");
        Ok(Self {
            qemu: sh::start_logged(qemu, &errors)?,
            serial: parts.serial.to_owned(),
            errors,
        })
    }

    /// Wait until `text` appears on the serial line.
    pub(crate) fn wait_for(&mut self, text: &str, deadline: Deadline) -> Result<()> {
        loop {
            if self.printed().contains(text) {
                return Ok(());
            }
            self.still_on()
                .with_context(|| format!("waiting for `{text}` on the serial line"))?;
            if deadline.is_over() {
                bail!("`{text}` did not appear in {} in time", self.serial.display());
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// An error once the machine is off, with the end of what it printed.
    pub(crate) fn still_on(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!(
                "the machine went off ({status}); the end of {}:\n{}\n{}",
                self.serial.display(),
                sh::last_lines(&self.printed(), 15),
                fs::read_to_string(&self.errors).unwrap_or_default().trim(),
            ),
        }
    }

    /// Wait until the machine has powered itself off.
    pub(crate) fn wait_off(mut self, deadline: Deadline) -> Result<()> {
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!(
                    "QEMU ended with {status}: {}",
                    fs::read_to_string(&self.errors)?.trim()
                ),
                None if deadline.is_over() => bail!("the machine did not go off in time"),
                None => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Everything that was printed on the serial line so far.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    /// How often the system has restarted by itself; an error if its kernel panicked.
    pub(crate) fn restarts(&self) -> Result<usize> {
        let printed = self.printed();
        match printed.lines().find(|line| line.contains("Kernel panic")) {
            Some(line) => bail!("{line}"),
            None => Ok(printed.matches("reboot: Restarting system").count()),
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.qemu.try_wait().context("asking whether QEMU is running")
    }
}

/// The arguments that make the card a drive: `card`, or the board's own. The host need not flush anything, since it stays
/// on.
fn drive(board: Board, card: &Path, disk: Disk<'_>) -> Result<Vec<String>> {
    let card = card.display();
    let slot = match board {
        Board::Virt => "if=none,id=card",
        Board::Raspi2b => "if=sd",
    };
    Ok(match disk {
        Disk::Plain => vec![
            "-drive".into(),
            format!("{slot},format=raw,cache=unsafe,file={card}"),
        ],
        Disk::Recorded(_) if board != Board::Virt => {
            bail!("the writes of {} cannot be recorded", board.name())
        }
        Disk::Recorded(log) => {
            fs::File::create(log)?;
            let (option, log) = ("-blockdev".to_owned(), log.display());
            let image = format!("driver=file,node-name=image,cache.no-flush=on,filename={card}");
            let file = format!("driver=file,node-name=log,cache.no-flush=on,filename={log}");
            let both = "driver=blklogwrites,node-name=card,log-sector-size=512,file=image,log=log".into();
            vec![option.clone(), image, option.clone(), file, option, both]
        }
    })
}

/// The card's own command line, changed for QEMU's board: it has other consoles and no screen, and may have other names for
/// the disk and the NIC.
pub(crate) fn command_line(card: &str, board: Board) -> String {
    let keep = |word: &&str| !word.starts_with("console=") && *word != "quiet" && *word != "splash";
    let mut words: Vec<String> = card
        .split_whitespace()
        .filter(keep)
        .map(|word| match board {
            Board::Virt => word.replace("/dev/mmcblk0p", "/dev/vda"),
            Board::Raspi2b => word.to_owned(),
        })
        .collect();
    if !words.iter().any(|word| word == "net.ifnames=0") {
        words.push("net.ifnames=0".into());
    }
    if board == Board::Raspi2b {
        // Two drivers claim QEMU's NIC on USB; this one gives it a random MAC, and no Pi needs it.
        words.push("modprobe.blacklist=cdc_subset".into());
    }
    words.extend(["console=ttyAMA0".into(), "panic=-1".into()]);
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_keeps_what_is_the_cards() {
        let check = |card: &str, expect: &str| assert_eq!(command_line(card, Board::Virt), expect);
        check(
            "console=serial0,115200 dwc_otg.lpm_enable=0 console=tty1 root=LABEL=writable rootwait quiet splash\n",
            "dwc_otg.lpm_enable=0 root=LABEL=writable rootwait net.ifnames=0 console=ttyAMA0 panic=-1",
        );
        check(
            "net.ifnames=0 root=/dev/mmcblk0p2 cgroup_enable=memory",
            "net.ifnames=0 root=/dev/vda2 cgroup_enable=memory console=ttyAMA0 panic=-1",
        );
    }
}
