//! What one does on a laptop of the home network while a card boots and after that: `find`, `watch`, `palm.local`, `push`.
//! The router stands for the laptop. It judges what the tool prints there, and never logs in by other means.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use serde_json::Value;
use xshell::{cmd, Cmd};

use super::checks::Checks;
use super::lab::Lab;
use super::off::text;
use super::router::PREFIX;
use crate::sh;

/// What `push` adds at the end of the farm, to its containers.
const MAIL: &str = "  mail:
    image: tiny
    files: {/var/www/index.html: index.html}
";

/// Runs a command with an `/etc/ssh` that only it sees.
const WITH_SETTINGS: &str = r#"mount --bind "$0" /etc/ssh && exec "$@""#;

/// Make the host key that the card brings; returns the keys of `ssh` in its farm.
pub(crate) fn host_key(lab: &Lab) -> Result<&'static str> {
    let keys = lab.dir.join("keys");
    fs::create_dir_all(&keys)?;
    let (sh, key) = (sh::shell()?, keys.join(&lab.host));
    sh::run(cmd!(sh, "ssh-keygen -q -t ed25519 -N '' -f {key}"))?;
    Ok("password: false, host_keys: keys")
}

/// The person's laptop.
pub(crate) struct Laptop<'a> {
    lab: &'a Lab,
    tool: &'a Path,
    /// The commands that wait for the card.
    waiting: [Waiting; 2],
}

/// A command that ends by itself: its name, and where its output goes.
type Waiting = (&'static str, Child, PathBuf);

impl<'a> Laptop<'a> {
    /// Start `find` and `watch` while the card begins to boot. ssh there knows the person's key, and no host.
    pub(crate) fn switched_on(lab: &'a Lab, tool: &'a Path) -> Result<Self> {
        let settings = lab.dir.join("ssh");
        fs::create_dir_all(&settings)?;
        let key = lab.key.private.display();
        let text = format!("IdentityFile {key}\nIdentitiesOnly yes\nUserKnownHostsFile /dev/null\n");
        fs::write(settings.join("ssh_config"), text)?;
        // A laptop without a network is told so, and does not wait.
        lab.deadline.at_most(60).retry(|| {
            ensure!(lab.router.has_carrier(), "the network has no carrier");
            Ok(())
        })?;
        let start = |name: &'static str| -> Result<Waiting> {
            let log = lab.dir.join(format!("{name}.log"));
            let command = palmfarm(lab, tool, name).args(["--timeout", "2h"]);
            Ok((name, sh::start_logged(command, &log)?, log))
        };
        let waiting = [start("find")?, start("watch")?];
        Ok(Self { lab, tool, waiting })
    }

    /// Check that both have seen the card and its container at these addresses, and have ended.
    pub(crate) fn has_seen(&mut self, addresses: [Ipv6Addr; 2], checks: &mut Checks) {
        for (name, child, log) in &mut self.waiting {
            let deadline = self.lab.deadline.at_most(300);
            let ended = deadline.retry(|| child.try_wait()?.context("it still waits"));
            let printed = fs::read_to_string(&*log).unwrap_or_default();
            checks.show(&format!("palmfarm {name}"), &printed);
            let seen = ended.and_then(|status| {
                ensure!(status.success(), "it ended with {status}");
                for address in addresses {
                    ensure!(
                        printed.contains(&address.to_string()),
                        "it does not say {address}"
                    );
                }
                Ok(String::new())
            });
            let what = format!("`palmfarm {name}` sees the card and its container come up");
            checks.check(&what, seen);
        }
    }

    /// Check that the card, which is at `address`, answers for its name.
    pub(crate) fn finds_the_name(&self, address: Ipv6Addr, checks: &mut Checks) {
        let name = format!("{}.local", self.lab.host);
        let named = self.lab.deadline.at_most(120).retry(|| {
            let found = self.lab.router.answers_for(&name)?;
            let has_both = found.iter().any(IpAddr::is_ipv4) && found.contains(&address.into());
            ensure!(has_both, "{name} is {found:?}");
            Ok(format!("{found:?}"))
        });
        checks.check(&format!("{name} is answered for, over IPv4 and IPv6"), named);
    }

    /// Push the farm with one container more, and check that `find` sees it; returns its address.
    pub(crate) fn adds_a_container(&self, checks: &mut Checks) -> Result<Ipv6Addr> {
        let (router, tool, farm) = (&self.lab.router, self.tool, self.lab.dir.join("farm.yaml"));
        let mut file = fs::OpenOptions::new().append(true).open(&farm)?;
        file.write_all(MAIL.as_bytes())?;
        let plan = cmd!(router, "{tool} plan {farm} --prefix {PREFIX} --format json");
        let plan: Value = serde_json::from_str(&sh::output(plan)?).context("reading the plan")?;
        let mut all = plan["containers"].as_array().into_iter().flatten();
        let mail = all.find(|one| text(one, "/name") == "mail");
        let mail = text(mail.context("the plan has no mail")?, "/addresses/0");
        for (command, option, expect) in [
            ("push", "--dry-run", "making mail"),
            ("push", "--yes", "everything is as declared"),
            ("find", "--once", mail),
        ] {
            let log = self.lab.dir.join("push.log");
            let ended = sh::run_logged(palmfarm(self.lab, tool, command).arg(option), &log);
            let printed = fs::read_to_string(&log).unwrap_or_default();
            checks.show(&format!("palmfarm {command} {option}"), &printed);
            let said = ended.and_then(|()| {
                ensure!(printed.contains(expect), "it does not say {expect:?}");
                Ok(expect.to_owned())
            });
            checks.check(
                &format!("`palmfarm {command} {option}` with one container more"),
                said,
            );
        }
        mail.parse()
            .with_context(|| format!("mail is predicted at {mail}"))
    }
}

/// `palmfarm COMMAND farm.yaml` on the laptop.
fn palmfarm<'a>(lab: &'a Lab, tool: &Path, command: &str) -> Cmd<'a> {
    let (router, settings, farm) = (&lab.router, lab.dir.join("ssh"), lab.dir.join("farm.yaml"));
    cmd!(
        router,
        "unshare --mount sh -c {WITH_SETTINGS} {settings} {tool} {command} {farm}"
    )
}
