//! What a card's programs need of its base: that units are there and start, that files can be changed, and that nothing
//! gives the uplink another name or people another locale.

use std::fs;

use palmfarm::edit::fs::FileKind;
use palmfarm::edit::tree::Volume;

use super::{accepted, base, can_run, card, kinds, plan, refused, run, text};
use crate::common::base::{link, put};
use crate::told;

const SSH: &str = "usr/lib/systemd/system/ssh.service";
const STARTS_SSH: &str = "etc/systemd/system/multi-user.target.wants/ssh.service";

#[test]
fn keys_need_an_ssh_server() {
    if !can_run() {
        return;
    }
    let image = base(|root| {
        fs::remove_file(root.join(SSH)).unwrap();
        fs::remove_file(root.join(STARTS_SSH)).unwrap();
        // What `systemctl enable ssh` has made beside it.
        link(
            root,
            "etc/systemd/system/sshd.service",
            "/lib/systemd/system/ssh.service",
        );
    });
    refused(
        &plan(&image, ""),
        "it has no SSH server, so craig could not log in with a key",
        "install openssh-server in the base, or carry it",
    );
    accepted(&plan(
        &base(|root| {
            fs::rename(
                root.join(SSH),
                root.join("usr/lib/systemd/system/dropbear.service"),
            )
            .unwrap();
        }),
        "",
    ));
    // A link that a removed socket has left starts nothing.
    let image = base(|root| {
        fs::remove_file(root.join(STARTS_SSH)).unwrap();
        link(
            root,
            "etc/systemd/system/sockets.target.wants/ssh.socket",
            "/lib/systemd/system/ssh.socket",
        );
    });
    let started = Some(FileKind::Symlink(b"/lib/systemd/system/ssh.service".to_vec()));
    assert_eq!(kinds(&card(&image, ""), &[STARTS_SSH])[0].1, started);
}

#[test]
fn who_is_to_become_root_needs_sudo() {
    if !can_run() {
        return;
    }
    let without = base(|root| {
        fs::remove_file(root.join("usr/bin/sudo")).unwrap();
        put(root, "usr/bin/login", "");
    });
    refused(
        &plan(&without, ""),
        "it has no sudo, so craig could not become root",
        "install sudo in the base, or carry it",
    );
    let with = base(|root| {
        fs::remove_file(root.join("usr/bin/sudo")).unwrap();
        put(root, "usr/lib/cargo/bin/sudo", "");
        link(root, "usr/bin/sudo", "/etc/alternatives/sudo");
        link(root, "etc/alternatives/sudo", "/usr/lib/cargo/bin/sudo");
    });
    accepted(&plan(&with, ""));
}

#[test]
fn units_of_packages_are_there() {
    if !can_run() {
        return;
    }
    let unit = "usr/lib/systemd/system/systemd-networkd.service";
    let masked = base(|root| {
        fs::remove_file(root.join(unit)).unwrap();
        link(root, unit, "/dev/null");
        // Debian's own.
        link(root, "usr/lib/systemd/system/sudo.service", "/dev/null");
    });
    refused(
        &plan(&masked, ""),
        &format!("its /{unit} masks systemd-networkd.service, which every card needs"),
        &format!("remove /{unit} from the base, and install the package"),
    );
    let requires = "etc/systemd/system/ssh.service.requires";
    let (gone, kept) = (
        [
            format!("{requires}/none.service"),
            format!("{requires}/none@x.service"),
        ],
        [
            format!("{requires}/dbus.service"),
            format!("{requires}/srv.mount"),
        ],
    );
    let image = base(|root| {
        for path in gone.iter().chain(&kept) {
            link(root, path, "/lib/systemd/system/some.service");
        }
        link(root, "usr/lib/systemd/system/sudo.service", "/dev/null");
    });
    let made = card(&image, "");
    for path in &gone {
        assert_eq!(kinds(&made, &[path.as_str()])[0].1, None, "{path}");
    }
    for path in &kept {
        assert!(kinds(&made, &[path.as_str()])[0].1.is_some(), "{path}");
    }
}

#[test]
fn what_the_first_boot_changes_can_be_changed() {
    if !can_run() {
        return;
    }
    for (path, flags, attribute) in [
        ("/etc/passwd", "0x80010", 'i'),
        ("/etc", "0x80020", 'a'),
        ("/home", "0x80010", 'i'),
    ] {
        let image = base(|_| {});
        image.debugfs(&format!("sif {path} flags {flags}"));
        refused(
            &plan(&image, ""),
            &format!("its {path} cannot be changed (it has the attribute of `chattr +{attribute}`)"),
            &format!("run `chattr -{attribute} {path}` in the base"),
        );
    }
    // These are new on the card.
    let image = base(|root| put(root, "etc/hostname", "ubuntu\n"));
    image.debugfs("sif /etc/hostname flags 0x80010");
    accepted(&plan(&image, ""));
}

#[test]
fn no_rule_renames_the_uplink() {
    if !can_run() {
        return;
    }
    let rules = "udev/rules.d";
    let names = "SUBSYSTEM!=\"net\", GOTO=\"end\"\nDRIVERS==\"lan78xx\", NAME=\"lan0\"\nLABEL=\"end\"\n";
    let gone = [
        format!("etc/{rules}/70-goto.rules"),
        format!("etc/{rules}/71-kernel.rules"),
        format!("usr/local/lib/{rules}/72-local.rules"),
    ];
    let stock = format!("usr/lib/{rules}/80-net-setup-link.rules");
    let image = base(|root| {
        put(root, &gone[0], names);
        put(root, &gone[1], "KERNEL==\"eth*\", \\\n NAME=\"lan0\"\n");
        put(root, &gone[2], names);
        put(root, &format!("usr/lib/{rules}/73-package.rules"), names);
        put(root, &format!("usr/lib/{rules}/74-other.rules"), names);
        put(root, &format!("etc/{rules}/74-other.rules"), "# off\n");
        put(
            root,
            &stock,
            "SUBSYSTEM!=\"net\", GOTO=\"end\"\nNAME==\"\", NAME=\"$env{ID_NET_NAME}\"\nLABEL=\"end\"\n",
        );
        put(
            root,
            "etc/sysctl.d/~~z.conf",
            "net/ipv6/conf/eth0.10/disable_ipv6 = 1\n",
        );
    });
    let made = card(&image, "");
    for path in &gone {
        assert_eq!(kinds(&made, &[path.as_str()])[0].1, None, "{path}");
    }
    let masked = Some(FileKind::Symlink(b"/dev/null".to_vec()));
    let mask = format!("etc/{rules}/73-package.rules");
    assert_eq!(kinds(&made, &[mask.as_str()])[0].1, masked);
    for path in [&stock, &format!("etc/{rules}/74-other.rules")] {
        assert_eq!(
            kinds(&made, &[path.as_str()])[0].1,
            Some(FileKind::File),
            "{path}"
        );
    }
    // It is read after the base's.
    assert_eq!(
        text(&made, Volume::Root, "/etc/sysctl.d/~~z~palmfarm-ipv6.conf"),
        "# palmfarm: the base turns IPv6 off.\nnet.ipv6.conf.eth0/10.disable_ipv6 = 0\n"
    );
}

#[test]
fn a_declared_locale_counts() {
    if !can_run() {
        return;
    }
    let farm = "locale: de_DE.UTF-8\n";
    for (path, text, line, said) in [
        ("etc/default/locale", "LANG=C\nLC_ALL=C\n", 2, "LC_ALL=C"),
        (
            "etc/environment",
            "PATH=/bin\nLC_TIME=en_DK.UTF-8\n",
            2,
            "LC_TIME=en_DK.UTF-8",
        ),
        ("etc/profile.d/lang.sh", "export LANG=\"C\"\n", 1, "LANG=C"),
    ] {
        let image = base(|root| put(root, path, text));
        refused(
            &plan(&image, farm),
            &format!(
                "line {line} of its /{path} sets {said}, which would count in place of `locale: de_DE.UTF-8`"
            ),
            &format!("remove line {line} of /{path} of the base, or leave `locale` out"),
        );
        accepted(&plan(&image, ""));
        // One of the farm's own is in the place of the base's.
        fs::write(image.dir.path().join("own"), "LANG=de_DE.UTF-8\n").unwrap();
        accepted(&plan(&image, &format!("{farm}files: {{/{path}: own}}\n")));
        fs::write(image.dir.path().join("own"), "export LC_ALL=C\n").unwrap();
        let out = run(
            &image,
            "craig",
            &format!("{farm}files: {{/{path}: own}}\n"),
            &["check", "farm.yaml"],
        );
        accepted(&out);
        let said = told(&out);
        assert!(
            said.contains("its line 1 sets LC_ALL=C, which would count in place of `locale: de_DE.UTF-8`"),
            "{said}"
        );
    }
    accepted(&plan(
        &base(|root| put(root, "etc/default/locale", "LANG=C\nLC_ALL=de_DE.UTF-8\n")),
        farm,
    ));
}
