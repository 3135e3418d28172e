//! A farm with a container on the booted card: Debian's LXD for armhf takes the preseed once the root file system has
//! grown, and a carried armhf container answers the router at the address that `plan` printed. Nothing here runs on this
//! machine's own LXD.

use std::fs::Permissions;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use fs_err::os::unix::fs::symlink;
use serde_json::Value;
use xshell::cmd;

use super::checks::{equal, Checks};
use super::farm::{self, Declared, LONG_ROLLBACK, SSH};
use super::guest::Guest;
use super::lab::Lab;
use super::laptop::{self, Laptop};
use super::look::Card;
use super::off::{self, text};
use super::qemu::Disk;
use super::Renderer;
use crate::base::Base;
use crate::deps::Package;
use crate::sh;

/// What a request to the container needs from the distribution.
pub(crate) const NEEDS: &[Package] = &[("curl", "curl")];

/// The farm without its network. The image is a plain root file system, for which the tool makes the metadata.
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

/// The applets of busybox that the container needs.
const APPLETS: &str = "sh ip udhcpc httpd test uname cat sleep";

/// Build the card, boot it, and ask its container from the router; `from_laptop` says whether the tool then also looks for
/// it, watches it and changes it from there.
pub(crate) fn trial(
    lab: &mut Lab,
    base: &Base,
    tool: &Path,
    from_laptop: bool,
    checks: &mut Checks,
) -> Result<()> {
    let farm = with_container(lab, base)?;
    let declared = Declared {
        network: &["uplink: eth0", LONG_ROLLBACK],
        names_mac: true,
        ssh: if from_laptop { laptop::host_key(lab)? } else { SSH },
        more: farm,
    };
    let plan = farm::build(lab, base, tool, declared)?;
    let host = farm::host(&plan)?;
    let web = address(&plan)?;
    checks.note(&format!(
        "plan predicts {host} for the host and {web} for the container"
    ));

    let machine = lab.power_on(base, Disk::Plain)?;
    let laptop = from_laptop.then(|| Laptop::switched_on(lab, tool)).transpose()?;
    let mut card = Card::new(lab, machine, host, Renderer::Networkd);
    card.answers(checks)?;
    card.settles(checks);
    card.is_as_declared(checks);
    let guest = &card.guest;
    checks.check(
        "the root file system grew before the agent began",
        grown_first(guest),
    );
    let pool = asked(guest, "/1.0/storage-pools/default").and_then(|pool| {
        equal(text(&pool, "/driver"), "btrfs")?;
        equal(text(&pool, "/config/size"), "2000000000")
    });
    checks.check("LXD has the pool of the preseed", pool);
    let machine = asked(guest, "/1.0/instances/web").map(|web| text(&web, "/architecture").to_owned());
    checks.equal("the container is one for armhf", machine, "armv7l");
    is_served(lab, web, checks);
    if let Some(mut laptop) = laptop {
        laptop.has_seen([host, web], checks);
        laptop.finds_the_name(host, checks);
        let mail = laptop.adds_a_container(checks)?;
        serves(lab, mail, "index.html", PAGE.trim(), checks);
    }
    let memory = guest.root("cat /sys/fs/cgroup/lxc.payload.web/memory.current || true");
    let memory = memory.unwrap_or_default();
    checks.note(&format!("bytes of memory of the container: {}", memory.trim()));
    lab.power_off(&card.guest, card.machine, checks);
    off::file_systems(lab, checks);
    checks.check(
        "the report on the FAT partition has the container where it was predicted",
        off::report(lab).and_then(|report| reported(&report, web)),
    );
    Ok(())
}

/// Put the files of a farm with a container beside it; returns its sections.
pub(crate) fn with_container(lab: &Lab, base: &Base) -> Result<&'static str> {
    image(base, &lab.dir)?;
    fs::write(lab.dir.join("index.html"), PAGE)?;
    Ok(FARM)
}

/// Where the container answers, as `plan` predicts it.
pub(crate) fn address(plan: &Value) -> Result<Ipv6Addr> {
    let web = text(plan, "/containers/0/addresses/0");
    web.parse()
        .with_context(|| format!("plan predicts {web} for the container"))
}

/// Check that the router gets from the container's web server what the farm put there.
pub(crate) fn is_served(lab: &Lab, web: Ipv6Addr, checks: &mut Checks) {
    for (path, expect) in [("index.html", PAGE.trim()), ("machine", "armv7l")] {
        serves(lab, web, path, expect, checks);
    }
}

/// Check what the router gets from the web server at `address`.
pub(crate) fn serves(lab: &Lab, address: Ipv6Addr, path: &str, expect: &str, checks: &mut Checks) {
    let (url, router) = (format!("http://[{address}]/{path}"), &lab.router);
    let answer = lab.deadline.at_most(300).retry(|| {
        sh::output(cmd!(
            router,
            "curl --silent --fail --globoff --noproxy * --max-time 20 {url}"
        ))
    });
    checks.equal(&format!("the router gets {url}"), answer, expect);
}

/// What LXD answers to a query.
pub(crate) fn asked(guest: &Guest<'_>, path: &str) -> Result<Value> {
    let answer = guest.root(&format!("lxc query '{path}'"))?;
    serde_json::from_str(&answer).with_context(|| format!("reading what LXD said of {path}"))
}

/// Whether the stage of cloud-init that grows the root file system ended before the agent started.
fn grown_first(guest: &Guest<'_>) -> Result<String> {
    let moment = |unit: &str, property: &str| -> Result<u64> {
        let text = guest.sh(&format!("systemctl show --value --property={property} {unit}"))?;
        text.trim()
            .parse()
            .with_context(|| format!("{property} of {unit} is {text:?}"))
    };
    let grown = moment("cloud-init.service", "ActiveEnterTimestampMonotonic")?;
    let agent = moment("palmfarm-firstboot.service", "ExecMainStartTimestampMonotonic")?;
    let first = grown != 0 && agent >= grown;
    ensure!(
        first,
        "cloud-init's stage ended after {grown} us, and the agent began after {agent} us"
    );
    Ok(format!(
        "{} s, the agent after {} s",
        grown / 1_000_000,
        agent / 1_000_000
    ))
}

/// Whether the first container of a report runs, and is seen at `web`.
pub(crate) fn reported(report: &Value, web: Ipv6Addr) -> Result<String> {
    is_where_predicted(
        report.pointer("/containers/0").context("it has no container")?,
        web,
    )
}

/// Whether what a report says of a container is that it runs, and has the address that was predicted.
pub(crate) fn is_where_predicted(one: &Value, predicted: Ipv6Addr) -> Result<String> {
    equal(text(one, "/state"), "Running")?;
    equal(text(one, "/message"), "")?;
    let has = |key: &str| {
        let all = one[key].as_array().into_iter().flatten();
        all.filter_map(|address| address.as_str()?.parse().ok())
            .any(|address: Ipv6Addr| address == predicted)
    };
    ensure!(has("predicted") && has("observed"), "it says {one}");
    Ok(predicted.to_string())
}

/// A root file system for armhf, `tiny.tar.gz` in `dir`: the busybox of the base's initrd, DHCPv4, a web server.
pub(crate) fn image(base: &Base, dir: &Path) -> Result<()> {
    let (root, archive) = (dir.join("tiny"), dir.join("tiny.tar.gz"));
    for sub in "bin dev etc proc root run sbin sys tmp var/www".split(' ') {
        fs::create_dir_all(root.join(sub))?;
    }
    let sh = sh::shell()?;
    sh.change_dir(&root);
    let mut cpio = Command::from(cmd!(sh, "busybox cpio -i bin/busybox"));
    sh::run(cpio.stdin(fs::File::open(&base.initrd)?.into_file()))?;
    for applet in APPLETS.split(' ') {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    symlink("../bin/busybox", root.join("sbin/init"))?;
    let inittab = "::sysinit:/bin/ip link set lo up\n\
                   ::sysinit:/bin/ip link set eth0 up\n\
                   ::respawn:/bin/udhcpc -f -t 3 -T 3 -A 5 -i eth0 -s /etc/udhcpc.sh\n\
                   ::respawn:/bin/httpd -f -p 80 -h /var/www\n";
    fs::write(root.join("etc/inittab"), inittab)?;
    let lease = "#!/bin/sh\n[ \"$1\" = bound ] && ip address add \"$ip/$mask\" dev \"$interface\"\nexit 0\n";
    fs::write(root.join("etc/udhcpc.sh"), lease)?;
    fs::set_permissions(root.join("etc/udhcpc.sh"), Permissions::from_mode(0o755))?;
    sh::run(cmd!(
        sh,
        "tar --create --gzip --owner=0 --group=0 --file {archive} ."
    ))
}
