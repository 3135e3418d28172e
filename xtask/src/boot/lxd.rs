//! A farm with a container on the booted card: Debian's LXD for armhf takes the preseed once the root file system has
//! grown, and a carried armhf container answers the router at the address that `plan` printed.

use std::fs::{self, File};
use std::net::Ipv6Addr;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::Path;

use anyhow::{bail, Context, Result};
use serde_json::Value;

use super::checks::{equal, Checks};
use super::farm::{self, Declared, Mac, PATIENT, USER};
use super::guest::Guest;
use super::lab::Lab;
use super::look::Card;
use super::qemu::Disk;
use super::router::PREFIX;
use super::{off, Renderer};
use crate::base::Base;
use crate::deps::{command, Package};
use crate::sh;

/// What asking the container needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[command("curl", "curl")];

/// What the farm says beyond the network. The image is a plain root file system, whose metadata the tool makes.
const FARM: &str = "\
lxd:
  storage: {driver: btrfs, size: 2GB}
images:
  tiny: {file: tiny.tar.gz}
containers:
  web:
    image: tiny
    files: {/var/www/index.html: index.html}
    run: [\"test -s /var/www/index.html\", \"uname -m > /var/www/machine\"]
";

/// What the container's web server answers.
const PAGE: &str = "a container on an armhf Pi\n";

/// Applets that the container's files name.
const APPLETS: [&str; 8] = ["sh", "ip", "udhcpc", "httpd", "test", "uname", "cat", "sleep"];

/// Build the card, boot it, and ask its container from the router.
pub(crate) fn trial(lab: &mut Lab, base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    image(base, &lab.dir)?;
    fs::write(lab.dir.join("index.html"), PAGE).context("writing index.html")?;
    let declared = Declared {
        network: &["uplink: eth0", PATIENT],
        mac: Mac::Named,
        more: FARM,
    };
    let host =
        farm::build(lab, base, tool, declared)?.context("`palmfarm plan` predicts no address of the host")?;
    let web = predicted(lab, tool)?;
    checks.note(&format!(
        "plan predicts {host} for the host and {web} for the container"
    ));

    let mut machine = lab.power_on(base, Disk::Plain)?;
    let address = host.to_string();
    let guest = Guest {
        router: &lab.router,
        key: &lab.key,
        user: USER,
        address: &address,
    };
    let mut card = Card {
        guest,
        machine: &mut machine,
        predicted: host,
        mac: lab.board.mac(),
        renderer: Renderer::Networkd,
        deadline: lab.deadline,
    };
    card.answers(checks)?;
    card.settles(checks);
    card.is_as_declared(checks);
    let guest = &card.guest;
    checks.check(
        "the root file system grew before the agent began",
        grown_first(guest),
    );
    checks.check(
        "LXD has the pool of the preseed",
        guest
            .root("lxc query /1.0/storage-pools/default")
            .and_then(|text| {
                let pool: Value = serde_json::from_str(&text).context("reading what LXD said of its pool")?;
                let word = |pointer: &str| pool.pointer(pointer).and_then(Value::as_str).unwrap_or("missing");
                equal(word("/driver"), "btrfs")?;
                equal(word("/config/size"), "2000000000")
            }),
    );
    checks.check(
        "the container is one for armhf",
        guest.root("lxc query /1.0/instances/web").and_then(|text| {
            let web: Value = serde_json::from_str(&text).context("reading what LXD said of the container")?;
            equal(web["architecture"].as_str().unwrap_or("missing"), "armv7l")
        }),
    );
    for (path, expect) in [("index.html", PAGE.trim()), ("machine", "armv7l")] {
        let url = format!("http://[{web}]/{path}");
        let answer = lab.deadline.at_most(300).retry(|| {
            let mut curl = lab.router.cmd("curl");
            sh::output(curl.args([
                "--silent",
                "--fail",
                "--globoff",
                "--noproxy",
                "*",
                "--max-time",
                "20",
                &url,
            ]))
        });
        checks.check(
            &format!("the router gets {url}"),
            answer.and_then(|text| equal(&text, expect)),
        );
    }
    let memory = guest.root("cat /sys/fs/cgroup/lxc.payload.web/memory.current || true");
    checks.note(&format!(
        "bytes of memory of the container: {}",
        memory.unwrap_or_default().trim()
    ));
    guest.power_off();
    let off = machine.wait_off(lab.deadline.at_most(600));
    checks.check("it powers off", off.map(|()| String::new()));
    off::file_systems(lab, checks);
    checks.check(
        "the report on the FAT partition has the container where it was predicted",
        off::report(lab).and_then(|report| reported(&report, web)),
    );
    Ok(())
}

/// The root file system is grown by a stage of cloud-init that has ended before the agent is started.
fn grown_first(guest: &Guest<'_>) -> Result<String> {
    let moment = |unit: &str, property: &str| -> Result<u64> {
        let text = guest.sh(&format!("systemctl show --value --property={property} {unit}"))?;
        text.trim()
            .parse()
            .with_context(|| format!("{property} of {unit} is {text:?}"))
    };
    let grown = moment("cloud-init.service", "ActiveEnterTimestampMonotonic")?;
    let agent = moment("palmfarm-firstboot.service", "ExecMainStartTimestampMonotonic")?;
    if grown == 0 || agent < grown {
        bail!("cloud-init's stage ended after {grown} us, and the agent began after {agent} us");
    }
    Ok(format!(
        "{} s, the agent after {} s",
        grown / 1_000_000,
        agent / 1_000_000
    ))
}

/// The container's address in the prefix.
fn predicted(lab: &Lab, tool: &Path) -> Result<Ipv6Addr> {
    let mut plan = sh::cmd(&tool.display().to_string(), ["plan"]);
    plan.arg(lab.dir.join("farm.yaml"));
    let plan = sh::output(plan.args(["--prefix", PREFIX, "--format", "json"]))?;
    let plan: Value = serde_json::from_str(&plan).context("reading what `palmfarm plan` printed")?;
    let address = plan.pointer("/containers/0/addresses/0").and_then(Value::as_str);
    let address = address.context("`palmfarm plan` predicts no address of the container")?;
    address
        .parse()
        .with_context(|| format!("{address} is no address"))
}

fn reported(report: &Value, web: Ipv6Addr) -> Result<String> {
    let one = report.pointer("/containers/0").context("it has no container")?;
    equal(one["state"].as_str().unwrap_or("missing"), "Running")?;
    equal(one["message"].as_str().unwrap_or("missing"), "")?;
    let has = |key: &str| {
        let all = one[key].as_array().into_iter().flatten();
        all.filter_map(|address| address.as_str()?.parse().ok())
            .any(|address: Ipv6Addr| address == web)
    };
    if !has("predicted") || !has("observed") {
        bail!("it says {one}");
    }
    Ok(web.to_string())
}

/// A root file system for armhf, `tiny.tar.gz` in `dir`: the busybox of the base's initrd, DHCPv4, a web server.
fn image(base: &Base, dir: &Path) -> Result<()> {
    let root = dir.join("tiny");
    let context = || format!("making {}", root.display());
    for sub in [
        "bin", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "var/www",
    ] {
        fs::create_dir_all(root.join(sub)).with_context(context)?;
    }
    let initrd = File::open(&base.initrd).with_context(|| format!("opening {}", base.initrd.display()))?;
    let busybox = root.join("bin/busybox");
    let out = File::create(&busybox).with_context(context)?;
    let mut cpio = sh::cmd("busybox", ["cpio", "-i", "--to-stdout", "bin/busybox"]);
    let status = cpio
        .stdin(initrd)
        .stdout(out)
        .status()
        .context("starting busybox cpio")?;
    if !status.success() {
        bail!("taking busybox out of {}: {status}", base.initrd.display());
    }
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).with_context(context)?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).with_context(context)?;
    }
    symlink("../bin/busybox", root.join("sbin/init")).with_context(context)?;
    let inittab = "::sysinit:/bin/ip link set lo up\n\
                   ::sysinit:/bin/ip link set eth0 up\n\
                   ::respawn:/bin/udhcpc -f -t 3 -T 3 -A 5 -i eth0 -s /etc/udhcpc.sh\n\
                   ::respawn:/bin/httpd -f -p 80 -h /var/www\n";
    fs::write(root.join("etc/inittab"), inittab).with_context(context)?;
    let lease = "#!/bin/sh\n[ \"$1\" = bound ] && ip address add \"$ip/$mask\" dev \"$interface\"\nexit 0\n";
    let script = root.join("etc/udhcpc.sh");
    fs::write(&script, lease).with_context(context)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).with_context(context)?;
    let mut tar = sh::cmd("tar", ["--create", "--gzip", "--owner=0", "--group=0", "--file"]);
    sh::run(
        tar.arg(dir.join("tiny.tar.gz"))
            .arg("--directory")
            .arg(&root)
            .arg("."),
    )
}
