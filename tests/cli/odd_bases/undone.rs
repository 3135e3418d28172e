//! What is in the way of a card and is undone on it, and what is read as the firmware reads it.

use std::fs;

use palmfarm::edit::fs::FileKind;
use palmfarm::edit::tree::{CardPath, Volume};

use super::{accepted, base, can_run, card, kinds, plan, put_boot, refused, text, volumes};
use crate::common::base::{link, put};
use crate::told;

#[test]
fn a_base_as_published_needs_nothing_undone() {
    if !can_run() {
        return;
    }
    let out = plan(&base(|_| {}), "");
    accepted(&out);
    assert!(!told(&out).contains("undone"), "{}", told(&out));
}

#[test]
fn what_turns_cloud_init_off_is_undone() {
    if !can_run() {
        return;
    }
    let gone = [
        "etc/cloud/cloud-init.disabled",
        "etc/cloud/ds-identify.cfg",
        "etc/systemd/system-generators/cloud-init-generator",
        "etc/systemd/system/cloud-final.service",
        "etc/systemd/system/cloud-init.service",
        "var/lib/cloud/instance",
        "var/lib/cloud/seed/nocloud/user-data",
    ];
    let image = base(|root| {
        put(root, gone[0], "");
        put(root, gone[1], "policy: disabled\n");
        link(root, gone[2], "/dev/null");
        link(root, gone[3], "/dev/null");
        put(root, gone[4], "[Service]\nExecStart=/bin/true\n");
        link(root, gone[5], "/var/lib/cloud/instances/iid-other");
        put(root, gone[6], "#cloud-config\npassword: stranger\n");
        put(
            root,
            "etc/systemd/system/cloud-init-local.service.d/off.conf",
            "[Unit]\nConditionPathExists=/nowhere\n",
        );
        put(
            root,
            "etc/systemd/system/cloud-init-local.service.d/mount-seed.conf",
            "[Unit]\nRequiresMountsFor=/boot/firmware\n",
        );
        put(
            root,
            "var/lib/cloud/seed/nocloud-net/network-config",
            "version: 2\n",
        );
    });
    put_boot(
        &image,
        "cmdline.txt",
        "console=tty1 root=LABEL=writable cloud-init=disabled ds=nocloud;s=http://192.0.2.1/ rootwait\n",
    );
    let card = card(&image, "");
    for (path, kind) in kinds(&card, &gone) {
        assert_eq!(kind, None, "{path}");
    }
    let drop_ins = "/etc/systemd/system/cloud-init-local.service.d";
    let names = volumes(&card)
        .reader(Volume::Root)
        .names(Some(&CardPath::new(drop_ins).unwrap()))
        .unwrap();
    assert_eq!(names, ["mount-seed.conf"]);
    let seed = CardPath::new("/var/lib/cloud/seed/nocloud-net").unwrap();
    let names = volumes(&card).reader(Volume::Root).names(Some(&seed)).unwrap();
    assert_eq!(names, ["meta-data", "user-data"]);
    assert_eq!(
        text(&card, Volume::Boot, "/cmdline.txt"),
        "console=tty1 root=LABEL=writable rootwait cgroup_enable=memory cgroup_memory=1\n"
    );
    let enabled = "/etc/systemd/system/cloud-init.target.wants/cloud-final.service";
    assert_eq!(
        kinds(&card, &[enabled])[0].1,
        Some(FileKind::Symlink(
            b"/lib/systemd/system/cloud-final.service".to_vec()
        ))
    );
    // The plan says so, and why.
    let said = told(&plan(&image, ""));
    for line in [
        "root:/etc/cloud/cloud-init.disabled  removed  (undone: turns cloud-init off)",
        "root:/etc/systemd/system/cloud-final.service  removed  (undone: cloud-final.service is masked or changed)",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one base has all that is undone, and what is seen of each"
)]
fn another_network_is_undone() {
    if !can_run() {
        return;
    }
    let network = "etc/systemd/network";
    let image = base(|root| {
        for (name, text) in [
            ("01-eth0.network", "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n"),
            (
                "01-quoted.network",
                "[Match]\nName=\"eth0\"\n\n[Network]\nDHCP=yes\n",
            ),
            (
                "01-broken.network",
                "[Match]\nName=wlan0 \\\n eth0\n\n[Network]\nDHCP=yes\n",
            ),
            ("02-any.network", "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n"),
            (
                "03-two.network",
                "[Match]\nName=eth0\nName=wlan0\n\n[Network]\nDHCP=yes\n",
            ),
            ("05-palmfarm-br0.network.d/x.conf", "[Network]\nDHCP=no\n"),
            ("50-lan.network", "[Match]\nName=lan*\n\n[Network]\nBridge=br0\n"),
            ("50-wlan.network", "[Match]\nName=wlan0\n\n[Network]\nDHCP=yes\n"),
            ("60-br0.netdev", "[NetDev]\nName=br0\nKind=bridge\n"),
            (
                "70-lan.link",
                "[Match]\nMACAddress=b8:27:eb:00:00:01\n\n[Link]\nName=lan0\n",
            ),
            ("75-usb.link", "[Match]\nOriginalName=eth1\n\n[Link]\nName=usb0\n"),
        ] {
            put(root, &format!("{network}/{name}"), text);
        }
        link(root, &format!("{network}/10-raspi-eth0.link"), "/dev/null");
        put(
            root,
            "usr/lib/systemd/network/03-packaged.network",
            "[Match]\nName=eth*\n\n[Network]\nDHCP=yes\n",
        );
        for unit in [
            "systemd-networkd.service",
            "systemd-networkd.socket",
            "systemd-resolved.service",
        ] {
            link(root, &format!("etc/systemd/system/{unit}"), "/dev/null");
        }
        put(root, "usr/lib/systemd/system/NetworkManager.service", "[Unit]\n");
        put(root, "usr/lib/systemd/system/dhcpcd.service", "[Unit]\n");
        put(root, "usr/lib/systemd/system/dhcpcd@.service", "[Unit]\n");
        put(root, "etc/systemd/system/connman.service", "[Unit]\n");
        put(root, "etc/init.d/wicd", "#!/bin/sh\n");
        put(
            root,
            "etc/systemd/resolved.conf",
            "[Resolve]\nDNSStubListener=no\n",
        );
        put(
            root,
            "etc/systemd/resolved.conf.d/dns.conf",
            "[Resolve]\nDNS=10.0.0.1\n",
        );
        put(
            root,
            "etc/udev/rules.d/70-persistent-net.rules",
            "SUBSYSTEM==\"net\", ATTR{address}==\"b8:27:eb:00:00:01\", NAME=\"lan0\"\n",
        );
        put(
            root,
            "etc/sysctl.conf",
            "# caf\u{e9}\nnet.ipv6.conf.all.disable_ipv6 = 1\nnet.ipv4.ip_forward=1\n",
        );
    });
    let card = card(&image, "network: {uplink: eth0}\n");
    let names = volumes(&card)
        .reader(Volume::Root)
        .names(Some(&CardPath::new(network).unwrap()))
        .unwrap();
    assert_eq!(
        names,
        [
            "03-packaged.network",
            "05-palmfarm-br0.network",
            "05-palmfarm-br0.network.d",
            "05-palmfarm-eth0.network",
            "50-wlan.network",
            "75-usb.link"
        ]
    );
    let drop_in = format!("{network}/05-palmfarm-br0.network.d/x.conf");
    assert_eq!(kinds(&card, &[&drop_in])[0].1, None);
    assert_eq!(
        text(&card, Volume::Root, "/etc/sysctl.d/~palmfarm-ipv6.conf"),
        "# palmfarm: the base turns IPv6 off.\nnet.ipv6.conf.all.disable_ipv6 = 0\n"
    );
    let rules = "etc/udev/rules.d/70-persistent-net.rules";
    assert_eq!(kinds(&card, &[rules])[0].1, None);
    let masked = Some(FileKind::Symlink(b"/dev/null".to_vec()));
    for path in [
        "etc/systemd/network/03-packaged.network",
        "etc/systemd/system/NetworkManager.service",
        "etc/systemd/system/connman.service",
        "etc/systemd/system/dhcpcd.service",
        "etc/systemd/system/dhcpcd@.service",
        "etc/systemd/system/wicd.service",
    ] {
        assert_eq!(kinds(&card, &[path])[0].1, masked, "{path}");
    }
    for path in [
        "etc/systemd/resolved.conf",
        "etc/systemd/resolved.conf.d/dns.conf",
    ] {
        assert_eq!(kinds(&card, &[path])[0].1, None, "{path}");
    }
    for path in [
        "systemd-networkd.service",
        "systemd-networkd.socket",
        "systemd-resolved.service",
    ] {
        let path = format!("etc/systemd/system/{path}");
        assert_eq!(kinds(&card, &[&path])[0].1, None, "{path}");
    }
}

#[test]
fn a_base_that_was_booted_lets_no_stranger_in() {
    if !can_run() {
        return;
    }
    let gone = [
        "home/ubuntu/.ssh/authorized_keys",
        "home/ubuntu/.bash_history",
        "root/.ssh/authorized_keys",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        "etc/sudoers.d/90-cloud-init-users",
        "var/lib/systemd/random-seed",
        "var/lib/dhcp/dhclient.eth0.leases",
        "etc/hosts.equiv",
        "etc/nologin",
        "etc/ssh/sshd_not_to_be_run",
        "etc/growroot-disabled",
        "var/lib/cloud/sem/config_users_groups.once",
    ];
    let image = base(|root| {
        for path in gone {
            put(root, path, "planted\n");
        }
        put(root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        put(root, "etc/ssh/sshd_config", "\n");
        let passwd = "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n\
                      open:x:1001:1001::/home/open:/bin/sh\nlocked:x:1002:1002::/:/bin/sh\n";
        put(root, "etc/passwd", passwd);
        let shadow =
            "root:*:1::::::\nubuntu:$6$salt$hash:19103:0:99999:7:::\nopen::1::::::\nlocked:!$6$a$b:1::::::\n";
        put(root, "etc/shadow", shadow);
    });
    // Another owner and mode than a new file would have.
    image.debugfs("sif /etc/shadow gid 42");
    let card = card(&image, "");
    assert_eq!(
        text(&card, Volume::Root, "/etc/shadow"),
        "root:*:1::::::\nubuntu:!:19103:0:99999:7:::\nopen:!:1::::::\nlocked:!$6$a$b:1::::::\n"
    );
    let shadow = CardPath::new("/etc/shadow").unwrap();
    let access = volumes(&card)
        .reader(Volume::Root)
        .stat(&shadow)
        .unwrap()
        .unwrap()
        .access;
    assert_eq!(access.unwrap().to_string(), "0640 0:42");
    for (path, kind) in kinds(&card, &gone) {
        assert_eq!(kind, None, "{path}");
    }
    assert_eq!(text(&card, Volume::Root, "/etc/machine-id"), "");
    let said = told(&plan(&image, ""));
    assert!(
        said.contains("(undone: the base lets open, ubuntu log in)"),
        "{said}"
    );
    assert!(!said.contains("$6$"), "{said}");
}

#[test]
fn units_in_every_place_of_systemd_are_undone() {
    if !can_run() {
        return;
    }
    let gone = [
        "etc/systemd/system/default.target",
        "usr/local/lib/systemd/system/systemd-networkd.service",
        "etc/systemd/system/service.d/off.conf",
        "etc/systemd/system/cloud-.service.d/off.conf",
        "etc/systemd/system/palmfarm-firstboot.service.d/off.conf",
        "etc/systemd/system/systemd-networkd.service.d/off.conf",
        "etc/systemd/system/systemd-udevd.service",
        "etc/systemd/system.control/systemd-networkd.service",
        "etc/systemd/system/lxd.service",
        "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf",
    ];
    let wants = "etc/systemd/system/multi-user.target.wants/ssh.service";
    let image = base(|root| {
        fs::remove_file(root.join(wants)).unwrap();
        put(root, "usr/lib/systemd/system/default.target", "[Unit]\n");
        link(root, gone[0], "/lib/systemd/system/rescue.target");
        put(root, gone[1], "[Service]\nExecStart=/bin/true\n");
        for drop_in in &gone[2..5] {
            put(root, drop_in, "[Unit]\nConditionPathExists=/nowhere\n");
        }
        put(root, gone[5], "[Unit]\nRequires = nowhere.service\n");
        // Also of a unit that is only there once the daemon is installed.
        for masked in &gone[6..9] {
            link(root, masked, "/dev/null");
        }
        let logs_in = "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear %I $TERM\n";
        put(root, gone[9], logs_in);
    });
    let card = card(&image, "lxd: {}\n");
    for (path, kind) in kinds(&card, &gone) {
        assert_eq!(kind, None, "{path}");
    }
    let started = Some(FileKind::Symlink(b"/lib/systemd/system/ssh.service".to_vec()));
    assert_eq!(kinds(&card, &[wants])[0].1, started);
}

#[test]
fn what_a_card_remembers_makes_no_base() {
    if !can_run() {
        return;
    }
    let image = base(|root| put(root, "var/lib/palmfarm/seed-done", ""));
    let said = told(&plan(&image, ""));
    assert!(said.contains("palmfarm has put a farm on it already"), "{said}");
}

#[test]
fn config_txt_is_read_as_the_firmware_reads_it() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let hint = "name one file by `cmdline=` in the section [all] of config.txt";
    put_boot(&image, "config.txt", "[all]\ncmdline=other.txt\n");
    refused(
        &plan(&image, ""),
        "its config.txt names other.txt as the kernel command line, and there is no such file",
        hint,
    );
    put_boot(&image, "other.txt", "root=LABEL=writable a\n");
    put_boot(
        &image,
        "config.txt",
        "cmdline=other.txt\n[pi4]\ncmdline=cmdline.txt\n",
    );
    refused(
        &plan(&image, ""),
        "its config.txt names another kernel command line for some boards: cmdline.txt",
        hint,
    );
    // What the hint says, in a file that is included; and a file that nothing includes is not read.
    put_boot(
        &image,
        "config.txt",
        "[pi4]\narm_boost=1\n[all]\ninclude more.txt\n",
    );
    put_boot(&image, "more.txt", "[all]\ncmdline=other.txt\n");
    put_boot(&image, "usercfg.txt", "cmdline=nowhere.txt\n");
    let card = card(&image, "boot: {config: {gpu_mem: 16}}\n");
    let line = "root=LABEL=writable a cgroup_enable=memory cgroup_memory=1\n";
    assert_eq!(text(&card, Volume::Boot, "/other.txt"), line);
    let config = text(&card, Volume::Boot, "/config.txt");
    assert!(config.ends_with("[all]\ngpu_mem=16\n"), "{config}");
    assert_eq!(text(&card, Volume::Boot, "/usercfg.txt"), "cmdline=nowhere.txt\n");
}
