//! One trial's folder, router and power switch, for one card; a trial with several has one of these for each.
//!
//! The card's image has a gigabyte, so it is removed at the end of the trial. After a failure the serial lines, the
//! router's log and the farm stay. Never removes the folder of a trial that is running.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use serde_json::Value;

use super::checks::Checks;
use super::deadline::Deadline;
use super::disk;
use super::guest::{Guest, KeyPair};
use super::qemu::{self, Board, Disk, Machine, Parts};
use super::router::Router;
use super::HOST;
use crate::base::Base;
use crate::cache;

/// The size of the card. Ubuntu's images are smaller, so the root file system has room to grow.
const CARD: u64 = 8 << 30;

/// Folders of failed trials that stay.
const KEPT: usize = 4;

/// One trial's folder and router, and the place of one card.
#[derive(Debug)]
pub(crate) struct Lab {
    /// The folder for everything of this trial.
    pub(crate) dir: PathBuf,
    pub(crate) router: Rc<Router>,
    /// Who may log in.
    pub(crate) key: KeyPair,
    /// The end of the trial.
    pub(crate) deadline: Deadline,
    /// What the card is put into.
    pub(crate) board: Board,
    /// How many processors that has, if it can be chosen.
    pub(crate) cores: u8,
    /// The card's name, and its host name.
    pub(crate) host: String,
    /// The router's socket that the card's cable is in.
    socket: u8,
    /// How often the power came on.
    pub(crate) boots: u32,
}

impl Lab {
    /// Run a trial called `name`, of at most so many seconds.
    pub(crate) fn with<T>(name: &str, seconds: u64, trial: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut lab = Self::new(name, seconds)?;
        let done = trial(&mut lab);
        lab.finish(done)
    }

    /// A new folder under target/boot, and a router that logs there.
    fn new(name: &str, seconds: u64) -> Result<Self> {
        let all = crate::target_dir().join("boot");
        // Only folders of trials that have ended. The newest stay, so that their logs can be read.
        cache::remove_oldest(&all, KEPT, |name| cache::has_ended(name, '-'));
        let dir = all.join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        let router = Router::start(&dir)?;
        let key = KeyPair::new(&dir)?;
        Ok(Self {
            dir,
            router: Rc::new(router),
            key,
            deadline: Deadline::seconds(seconds),
            board: Board::Virt,
            cores: 2,
            host: HOST.to_owned(),
            socket: 0,
            boots: 0,
        })
    }

    /// The place of another card in the same trial, with its cable in this socket.
    pub(crate) fn beside(&self, host: String, socket: u8) -> Result<Self> {
        self.router.plug(socket)?;
        Ok(Self {
            dir: self.dir.clone(),
            router: Rc::clone(&self.router),
            key: self.key.clone(),
            deadline: self.deadline,
            board: self.board,
            cores: self.cores,
            host,
            socket,
            boots: 0,
        })
    }

    /// Where the card's image goes: its name in the folder, as the tool names the images of several cards.
    pub(crate) fn card(&self) -> PathBuf {
        self.dir.join(format!("{}.img", self.host))
    }

    /// The hardware address of the card's NIC.
    pub(crate) fn mac(&self) -> String {
        self.board.mac(self.socket)
    }

    /// Grow the image to the size of a card; the new part is a hole.
    pub(crate) fn pad(&self) -> Result<()> {
        Ok(fs::OpenOptions::new()
            .write(true)
            .open(self.card())?
            .set_len(CARD)?)
    }

    /// Power on, with the kernel's command line from the card.
    pub(crate) fn power_on(&mut self, base: &Base, disk: Disk<'_>) -> Result<Machine> {
        self.boots = self.boots.saturating_add(1);
        let card = self.card();
        let line = disk::fat_file(&card, "current/cmdline.txt");
        let line = line.or_else(|_| disk::fat_file(&card, "cmdline.txt"))?;
        let tree = self.board.device_tree();
        let tree = tree
            .map(|name| disk::fat_copy(&card, name, &self.dir))
            .transpose()?;
        let parts = Parts {
            board: self.board,
            cores: self.cores,
            socket: self.socket,
            machine: base.machine,
            card: &card,
            disk,
            kernel: &base.kernel,
            initrd: &base.initrd,
            device_tree: tree.as_deref(),
            command_line: &qemu::command_line(&line, self.board),
            serial: &self.serial(),
        };
        Machine::start(&self.router, &parts)
    }

    /// Shut the card down, and check that the power goes off.
    pub(crate) fn power_off(&self, guest: &Guest<'_>, machine: Machine, checks: &mut Checks) {
        // The connection may break before ssh reports success.
        let _ = guest.root("systemctl poweroff");
        checks.done("it powers off", machine.wait_off(self.deadline.at_most(600)));
    }

    /// The shell of `user` on the card, which is expected at `address`.
    pub(crate) fn guest<'a>(&'a self, user: &'a str, address: &str) -> Guest<'a> {
        let (router, key, address) = (&*self.router, &self.key, address.to_owned());
        Guest {
            router,
            key,
            user,
            address,
        }
    }

    /// The IPv4 address that the router has given to the card, if the card answers there.
    pub(crate) fn lease(&self) -> Result<String> {
        let lease = self.router.lease(&self.mac());
        let lease = lease
            .context("the router has given no address to the card")?
            .to_string();
        ensure!(self.router.pings(&lease), "no answer from {lease}");
        Ok(lease)
    }

    /// The agent's report at `path`, read when its run has ended.
    pub(crate) fn report(&self, guest: &Guest<'_>, machine: &mut Machine, path: &str) -> Result<Value> {
        self.deadline.at_most(2400).retry(|| {
            machine.still_on()?;
            let ended =
                "systemctl show --property=ExecMainExitTimestampMonotonic palmfarm-firstboot.service | \
                         grep -q '=[1-9]'";
            guest
                .sh_once(ended, "true")
                .context("the agent is still at work")?;
            let report = guest.root(&format!("cat {path}"))?;
            serde_json::from_str(&report).with_context(|| format!("reading {path}"))
        })
    }

    /// The serial line of the latest boot.
    pub(crate) fn serial(&self) -> PathBuf {
        self.dir.join(format!("serial-{}-{}.log", self.host, self.boots))
    }

    /// Clean up after `trial`: everything after a success, the image only after a failure.
    fn finish<T>(self, trial: Result<T>) -> Result<T> {
        let Self { dir, router, .. } = self;
        // The last of the trial: this ends the machines and removes the images.
        drop(router);
        if trial.is_ok() {
            let _ = fs::remove_dir_all(&dir);
            return trial;
        }
        crate::deps::give_back(&[&dir]);
        trial.with_context(|| format!("serial lines and logs are kept in {}", dir.display()))
    }
}
