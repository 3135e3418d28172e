//! What a farm's own files and overlays would keep its card from: `check`, `plan` and `build` say it alike, with the line and
//! the reason, and what is harmless is not spoken of.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::common::skipped;
use super::{has_agents, palmfarm, told};

/// A farm in `dir` on the built-in base, with `more`.
fn farm(dir: &Path, more: &str) {
    let text = format!(
        "farm: 1\nbase: mini\nhostname: palm\nlxd: {{}}\nusers:\n  - name: craig\n    ssh_keys: [\"ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV x\"]\n{more}"
    );
    fs::write(dir.join("farm.yaml"), text).unwrap();
}

/// Put `text` as `path` into the overlay `site` of `dir`.
fn lay(dir: &Path, path: &str, text: &str) {
    let full = dir.join("site").join(path);
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    fs::write(full, text).unwrap();
}

/// What each command says that is to say it.
fn said(dir: &Path, code: i32) -> Vec<String> {
    let commands = [
        &["check", "farm.yaml"][..],
        &["plan", "farm.yaml"],
        &["build", "farm.yaml", "-o", "x.img"],
    ];
    let said = |command: &&[&str]| {
        let out = palmfarm(dir, command);
        assert_eq!(out.status.code(), Some(code), "{command:?}: {}", told(&out));
        told(&out)
    };
    commands.iter().map(said).collect()
}

/// Whether nothing is said of a file or an overlay; every command warns of the built-in base.
fn is_silent(said: &str) -> bool {
    ["of this overlay", "\" as /etc", "in the way", "error:"]
        .iter()
        .all(|word| !said.contains(word))
}

#[test]
fn what_is_declared_and_in_the_way_is_told() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("site.conf"), "# ours\ninstall bridge /bin/true\n").unwrap();
    fs::write(dir.join("name"), "oak\n").unwrap();
    farm(
        dir,
        "overlays: [site]\nfiles:\n  /etc/modprobe.d/site.conf: site.conf\n  /etc/hostname: name\n",
    );
    for (path, text) in [
        ("boot/user-data", "#cloud-config\n"),
        ("boot/config.txt", "gpu_mem=16\n"),
        (
            "root/etc/cloud/cloud.cfg.d/zz.cfg",
            "datasource_list: [Ec2]\nresize_rootfs: no\n",
        ),
        (
            "root/etc/netplan/60-lan.yaml",
            "network: {ethernets: {eth0: {dhcp4: true}}}\n",
        ),
        ("root/etc/sysctl.d/x.conf", "net.ipv6.conf.all.disable_ipv6 = 1\n"),
        (
            "root/etc/systemd/network/01-lan.network",
            "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n",
        ),
        (
            "root/etc/systemd/network/20-lan.network",
            "[Match]\nName=eth0\n[Network]\nDHCP=yes\n",
        ),
        (
            "root/etc/systemd/system/palmfarm-network.service",
            "[Service]\nExecStart=/bin/true\n",
        ),
        (
            "root/etc/systemd/system/ssh.service.d/x.conf",
            "[Service]\nExecStart=\nExecStart=/bin/true\n",
        ),
        (
            "root/etc/systemd/system/var.mount",
            "[Mount]\nWhat=/dev/sda1\nWhere=/var\n",
        ),
    ] {
        lay(dir, path, text);
    }
    let way = "of this overlay is in the way of what palmfarm plans:";
    for said in said(dir, 0) {
        for expect in [
            "farm.yaml:8:12: warning: boot/user-data of this overlay is read by nobody",
            "farm.yaml:8:12: warning: boot/config.txt of this overlay takes the place of the base's whole config.txt",
            &format!("zz.cfg {way} it sets resize_rootfs, on which every card depends"),
            &format!("zz.cfg {way} it sets datasource_list, which cloud-init reads after palmfarm's own settings"),
            &format!("60-lan.yaml {way} it configures eth0, as palmfarm's own files do"),
            &format!("x.conf {way} its net.ipv6.conf.all.disable_ipv6 turns IPv6 off"),
            &format!("01-lan.network {way} it would configure an interface of the card otherwise"),
            &format!("20-lan.network {way} it would configure an interface of the card otherwise"),
            "palmfarm-network.service of this overlay takes the place of a unit of palmfarm's",
            &format!("x.conf {way} ssh.service would start otherwise, or not at all"),
            &format!("var.mount {way} it mounts another filesystem at /var"),
            "farm.yaml:10:30: warning: \"site.conf\" as /etc/modprobe.d/site.conf is in the way of what palmfarm plans: its \
             line 2 keeps the module bridge from being loaded, without which there is no bridge",
            "hint: leave that line out, unless that is meant",
            "farm.yaml:11:18: warning: \"name\" as /etc/hostname takes the place of the card's host name",
            "hint: write `hostname:` in farm.yaml",
        ] {
            assert!(said.contains(expect), "{expect}: {said}");
        }
    }
    // As the hints say.
    fs::write(dir.join("site.conf"), "# ours\n").unwrap();
    fs::write(dir.join("name"), "palm\n").unwrap();
    farm(
        dir,
        "files:\n  /etc/modprobe.d/site.conf: site.conf\n  /etc/hostname: name\n",
    );
    for said in said(dir, 0) {
        assert!(is_silent(&said), "{said}");
    }
}

#[test]
fn what_is_declared_and_lets_no_card_come_up_is_refused() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("empty"), "").unwrap();
    farm(
        dir,
        "overlays: [site]\nfiles: {/etc/cloud/cloud-init.disabled: empty}\n",
    );
    lay(dir, "root/etc/palmfarm/firstboot.json", "{}\n");
    let units = dir.join("site/root/etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    symlink("/dev/null", units.join("systemd-networkd.service")).unwrap();
    for said in said(dir, 1) {
        for expect in [
            "farm.yaml:8:12: error: root/etc/palmfarm/firstboot.json of this overlay is where palmfarm puts what its agent \
             works from",
            "farm.yaml:8:12: error: root/etc/systemd/system/systemd-networkd.service of this overlay is in the way of what \
             palmfarm plans: systemd-networkd.service is masked or changed",
            "\"empty\" as /etc/cloud/cloud-init.disabled is in the way of what palmfarm plans: turns cloud-init off",
        ] {
            assert!(said.contains(expect), "{expect}: {said}");
        }
    }
    assert!(!dir.join("x.img").exists());
}

#[test]
fn what_is_declared_and_harmless_is_not_spoken_of() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("hosts"), "127.0.0.1 localhost\n192.0.2.7 nas\n").unwrap();
    farm(dir, "overlays: [site]\nfiles: {/etc/hosts: hosts}\n");
    for (path, text) in [
        ("boot/notes.txt", "mine\n"),
        (
            "root/etc/cloud/cloud.cfg.d/50-site.cfg",
            "runcmd: [[touch, /srv/x]]\ndatasource_list: [Ec2]\n",
        ),
        (
            "root/etc/modprobe.d/site.conf",
            "blacklist dvb_usb_rtl28xxu\noptions bridge x=1\n",
        ),
        (
            "root/etc/netplan/60-wifi.yaml",
            "network: {wifis: {wlan0: {dhcp4: true}}}\n",
        ),
        ("root/etc/ssh/sshd_config.d/10-site.conf", "AllowUsers craig\n"),
        (
            "root/etc/sysctl.d/x.conf",
            "net.ipv4.ip_forward = 1\nnet.ipv6.conf.wlan0.disable_ipv6 = 1\n",
        ),
        (
            "root/etc/systemd/network/05-palmfarm-br0.network.d/mtu.conf",
            "[Link]\nMTUBytes=1400\n",
        ),
        (
            "root/etc/systemd/network/20-wifi.network",
            "[Match]\nType=wlan\n[Network]\nDHCP=yes\n",
        ),
        (
            "root/etc/systemd/system/ssh.service.d/x.conf",
            "[Service]\nMemoryMax=100M\n",
        ),
        (
            "root/etc/systemd/system/site.service",
            "[Service]\nExecStart=/bin/true\n",
        ),
        (
            "root/etc/systemd/system/srv.mount",
            "[Mount]\nWhat=/dev/sda1\nWhere=/srv\n",
        ),
        ("root/home/shared/palmfarm-notes.txt", "mine\n"),
    ] {
        lay(dir, path, text);
    }
    let wants = dir.join("site/root/etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    symlink("/etc/systemd/system/site.service", wants.join("site.service")).unwrap();
    for said in said(dir, 0) {
        assert!(is_silent(&said), "{said}");
    }
}

#[test]
fn what_is_declared_and_does_nothing_is_told() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("job"), "#!/bin/sh\ntrue\n").unwrap();
    fs::write(dir.join("tab"), "* * * * * root true\n").unwrap();
    let files = |job: &str, tab: &str| {
        farm(
            dir,
            &format!("files:\n  /usr/local/bin/job: {job}\n  /etc/cron.d/{tab}: tab\n"),
        );
    };
    files("job", "site.tab");
    for said in said(dir, 0) {
        for expect in [
            "farm.yaml:9:23: warning: \"job\" as /usr/local/bin/job would not run: its mode is 0644",
            "hint: give it `mode: \"0755\"`",
            "warning: \"tab\" as /etc/cron.d/site.tab has no effect: files with such a name are passed over in /etc/cron.d",
            "hint: give it a name of letters, digits, `_` and `-`",
        ] {
            assert!(said.contains(expect), "{expect}: {said}");
        }
    }
    // As the hints say.
    files("{file: job, mode: \"0755\"}", "site-tab");
    for said in said(dir, 0) {
        assert!(
            !said.contains("would not run") && !said.contains("no effect"),
            "{said}"
        );
    }
}

/// An access control list in the kernel's form (`linux/posix_acl_xattr.h`): a version, and entries of tag, permissions and
/// number. Besides owner (1), group (4), mask (16) and others (32) it lets the user 1 read (2).
fn access_control_list() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, number: u32| {
        let head = [tag.to_le_bytes(), permissions.to_le_bytes()].concat();
        [head, number.to_le_bytes().to_vec()].concat()
    };
    let nobody = u32::MAX;
    let entries = [
        entry(1, 6, nobody),
        entry(2, 4, 1),
        entry(4, 4, nobody),
        entry(16, 4, nobody),
        entry(32, 4, nobody),
    ];
    [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
}

#[test]
fn an_attribute_that_is_lost_is_told() {
    const LIST: &str = "system.posix_acl_access";
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    farm(dir, "overlays: [site]\n");
    lay(dir, "root/srv/shared", "x\n");
    let file = dir.join("site/root/srv/shared");
    let set = rustix::fs::setxattr(
        &file,
        LIST,
        &access_control_list(),
        rustix::fs::XattrFlags::empty(),
    );
    if set.is_err() {
        skipped("no filesystem with access control lists");
        return;
    }
    for said in said(dir, 0) {
        let expect = "farm.yaml:8:12: warning: of the files of this overlay 1 lose an attribute that says who may do what; \
                      the first is root/srv/shared (system.posix_acl_access)";
        assert!(said.contains(expect), "{said}");
    }
    rustix::fs::removexattr(&file, LIST).unwrap();
    for said in said(dir, 0) {
        assert!(is_silent(&said), "{said}");
    }
}
