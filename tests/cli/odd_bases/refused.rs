//! What cannot be undone: each refusal has a hint, and the test follows it.

use std::fs;

use palmfarm::edit::tree::Volume;

use super::{accepted, base, can_run, card, plan, put_boot, refused, run, text};
use crate::common::base::{link, put, CLOUD_CFG};
use crate::{common, palmfarm};

#[test]
fn names_that_the_base_has_taken_are_refused() {
    if !can_run() {
        return;
    }
    let image = base(|root| {
        let passwd = "root:x:0:0::/root:/bin/bash\nmallory:x:1000:1000::/home/mallory:/bin/bash\n";
        put(root, "etc/passwd", passwd);
        put(root, "home/eve/.profile", "");
    });
    let as_user = |name: &str| run(&image, name, "", &["plan", "farm.yaml"]);
    refused(
        &as_user("mallory"),
        "it has an account mallory already, and cloud-init would leave that one as it is",
        "hint: give the user another name, or remove mallory from the base",
    );
    refused(
        &as_user("admin"),
        "it has a group admin already, so useradd would refuse to make the user",
        "hint: give the user another name, or remove admin from the base",
    );
    refused(
        &as_user("eve"),
        "it has a /home/eve already, and useradd would leave that to whom it belongs",
        "hint: give the user another name, or remove /home/eve from the base",
    );
    accepted(&as_user("alice"));
}

#[test]
fn settings_of_cloud_init_that_cannot_be_undone_are_refused() {
    if !can_run() {
        return;
    }
    let image = base(|root| {
        put(
            root,
            "etc/cloud/cloud.cfg.d/zz-site.cfg",
            "datasource_list: [Ec2]\nntp: {}\n",
        );
        put(
            root,
            "etc/cloud/cloud.cfg",
            &CLOUD_CFG.replace("users-groups, ssh", "ssh"),
        );
        put(root, "var/lib/cloud/instances/palmfarm-palm/sem/config_ssh", "");
    });
    let out = plan(&image, "timezone: Europe/Vienna\n");
    for (message, hint) in [
        (
            "its /etc/cloud/cloud.cfg.d/zz-site.cfg sets datasource_list, which cloud-init reads after palmfarm's own",
            "remove /etc/cloud/cloud.cfg.d/zz-site.cfg from the base, or give it a name that sorts before 99-palmfarm",
        ),
        (
            "its /etc/cloud/cloud.cfg does not let cloud-init run users_groups",
            "put these modules back into the base's /etc/cloud/cloud.cfg",
        ),
        (
            "cloud-init has left /var/lib/cloud/instances/palmfarm-palm there",
            "remove /var/lib/cloud/instances/palmfarm-palm from the base, or give the card another name",
        ),
    ] {
        refused(&out, message, hint);
    }
    // As the hints say.
    let mended = base(|root| {
        put(
            root,
            "etc/cloud/cloud.cfg.d/98-site.cfg",
            "datasource_list: [Ec2]\nntp: {}\n",
        );
        put(root, "var/lib/cloud/instances/palmfarm-palm/sem/config_ssh", "");
    });
    let other_card = "timezone: Europe/Vienna\ncards: {elm: {}}\n";
    let farm = |more: &str| run(&mended, "craig", more, &["plan", "farm.yaml"]);
    let out = farm(other_card);
    accepted(&out);
}

#[test]
fn a_base_without_a_stage_of_cloud_init_is_refused() {
    if !can_run() {
        return;
    }
    let image = base(|root| {
        fs::remove_file(root.join("usr/lib/systemd/system/cloud-final.service")).unwrap();
    });
    refused(
        &plan(&image, ""),
        "has no cloud-final.service, which makes users and sets time zone and locale",
        "take Ubuntu's image",
    );
}

#[test]
fn a_command_line_that_would_not_start_the_card_is_refused() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let root = "root=LABEL=writable";
    let check = |line: &str, message: &str, hint: &str| {
        put_boot(&image, "cmdline.txt", line);
        refused(&plan(&image, ""), message, hint);
    };
    check(
        "console=tty1 root=PARTUUID=deadbeef-02\n",
        "has root=PARTUUID=deadbeef-02, and the root filesystem is LABEL=writable",
        "write `boot: {cmdline: [\"root=LABEL=writable\"]}` in farm.yaml",
    );
    accepted(&plan(&image, "boot: {cmdline: [\"root=LABEL=writable\"]}\n"));
    check(
        "root=/dev/mmcblk0p3\n",
        "has root=/dev/mmcblk0p3, and the root filesystem is LABEL=writable",
        "root=LABEL=writable",
    );
    check(
        &format!("{root} systemd.run=/boot/firstrun.sh\n"),
        "has systemd.run=/boot/firstrun.sh, which runs a command in place of the system",
        "remove systemd.run=/boot/firstrun.sh from cmdline.txt",
    );
    check(
        &format!("{root} init=/usr/lib/raspi-config/init_resize.sh\n"),
        "which starts something else than systemd",
        "remove init=",
    );
    check(
        &format!("console=tty1\n{root} rootwait\n"),
        "/cmdline.txt has 1 lines of words below its first line, and the firmware reads the first line alone",
        "put all words of /cmdline.txt, on the FAT partition of the base, into its first line",
    );
    put_boot(&image, "cmdline.txt", &format!("console=tty1 {root} rootwait\n"));
    accepted(&plan(&image, ""));
    put_boot(
        &image,
        "cmdline.txt",
        &format!("{root} ipv6.disable=1 rootwait\r\n"),
    );
    let made = card(&image, "");
    let words = "root=LABEL=writable rootwait cgroup_enable=memory cgroup_memory=1\n";
    assert_eq!(text(&made, Volume::Boot, "/cmdline.txt"), words);
}

#[test]
fn a_filesystem_that_fstab_would_not_find_is_refused() {
    if !can_run() {
        return;
    }
    let lines = "LABEL=writable / ext4 defaults 0 1\nLABEL=SYSTEM-BOOT /boot/firmware vfat defaults 0 1\n";
    let with = |fstab: &str| {
        let fstab = fstab.to_owned();
        base(move |root| put(root, "etc/fstab", &fstab))
    };
    let hint = "add `nofail` to that line of the base's fstab, or remove the line";
    let image = with(lines);
    refused(
        &plan(&image, ""),
        "its fstab mounts LABEL=SYSTEM-BOOT at /boot/firmware, and the image has no such filesystem",
        hint,
    );
    // The farm's own takes its place.
    fs::write(
        image.dir.path().join("fstab"),
        "LABEL=writable / ext4 defaults 0 1\n",
    )
    .unwrap();
    accepted(&plan(&image, "files: {/etc/fstab: fstab}\n"));

    let good = "UUID=70616C6D-0000-4000-8000-000000000001 / ext4 defaults 0 1\n\
                UUID=7061-6C6D /boot/firmware vfat defaults 0 1\n/swapfile none swap sw 0 0\ntmpfs /tmp tmpfs defaults\n";
    accepted(&plan(&with(good), ""));
    let disk = |options: &str| format!("{good}UUID=4711 /srv ext4 {options} 0 2\n");
    refused(
        &plan(&with(&disk("defaults")), ""),
        "its fstab mounts UUID=4711 at /srv, and the image has no such filesystem",
        hint,
    );
    accepted(&plan(&with(&disk("defaults,nofail")), ""));
}

#[test]
fn an_ssh_server_that_lets_in_others_is_refused() {
    if !can_run() {
        return;
    }
    let with = |line: &str| {
        let line = line.to_owned();
        base(move |root| put(root, "etc/ssh/sshd_config.d/10-site.conf", &line))
    };
    refused(
        &plan(&with("TrustedUserCAKeys /etc/ssh/ca.pub\n"), ""),
        "its /etc/ssh/sshd_config.d/10-site.conf sets TrustedUserCAKeys, with which others than the farm's users may log in",
        "remove the line with TrustedUserCAKeys from /etc/ssh/sshd_config.d/10-site.conf of the base",
    );
    for (line, key) in [
        (
            "AuthorizedKeysFile .ssh/authorized_keys %h/mykeys\n",
            "AuthorizedKeysFile",
        ),
        ("AuthorizedKeysFile /etc/ssh/keys/%u\n", "AuthorizedKeysFile"),
        ("Include /etc/ssh/x/*.conf\n", "Include"),
    ] {
        let hint = format!("remove the line with {key} from");
        refused(
            &plan(&with(line), ""),
            &format!("10-site.conf sets {key}, with which"),
            &hint,
        );
    }
    accepted(&plan(&with("X11Forwarding no\n"), ""));
}

#[test]
fn a_list_of_passwords_behind_a_link_is_refused() {
    if !can_run() {
        return;
    }
    let with = |password: &str| {
        let line = format!("ubuntu:{password}:19103:0:99999:7:::\n");
        base(move |root| {
            put(root, "etc/shadow.real", &line);
            let shadow = root.join("etc/shadow");
            let _ = fs::remove_file(&shadow);
            std::os::unix::fs::symlink("shadow.real", shadow).unwrap();
        })
    };
    refused(
        &plan(&with("$6$salt$hash"), ""),
        "its /etc/shadow is not a regular file, so palmfarm cannot lock the accounts that have a password there",
        "put the file itself at /etc/shadow of the base",
    );
    accepted(&plan(&with("!"), ""));
}

#[test]
fn files_that_keep_people_out_or_lose_the_farm_are_refused() {
    if !can_run() {
        return;
    }
    for (path, odd, message, hint, mended) in [
        (
            "etc/hosts.deny",
            "ALL: ALL\n",
            "its /etc/hosts.deny refuses connections",
            "remove the lines of /etc/hosts.deny",
            "# ALL: PARANOID\n",
        ),
        (
            "etc/ufw/ufw.conf",
            "ENABLED=yes\n",
            "its /etc/ufw/ufw.conf turns the firewall on",
            "write `ENABLED=no` into /etc/ufw/ufw.conf",
            "ENABLED=no\n",
        ),
        (
            "etc/overlayroot.conf",
            "overlayroot=\"tmpfs\"\n",
            "its /etc/overlayroot.conf keeps everything that the Pi makes in memory",
            "write `overlayroot=\"\"` into /etc/overlayroot.conf",
            "overlayroot_cfgdisk=\"disabled\"\noverlayroot=\"\"\n",
        ),
        (
            "etc/fstab",
            "LABEL=writable / ext4 ro,noatime 0 1\n",
            "its fstab mounts the root filesystem with the options ro,noatime",
            "remove `ro` from the line for `/`",
            "LABEL=writable / ext4 noatime 0 1\n",
        ),
        (
            "etc/fstab",
            "LABEL=writable / ext4 defaults 0 1\n/dev/sda1 /var ext4 nofail 0 2\n",
            "its fstab mounts another filesystem at /var, which would hide",
            "remove that line of the base's fstab",
            "LABEL=writable / ext4 defaults 0 1\n/dev/sda1 /srv ext4 nofail 0 2\n",
        ),
        (
            "etc/fstab",
            "LABEL=\"writable\" / ext4 defaults 0 1\nID=usb-stick //etc//palmfarm ext4 nofail 0 2\n",
            "its fstab mounts another filesystem at /etc/palmfarm, which would hide",
            "remove that line of the base's fstab",
            "LABEL=\"writable\" / ext4 defaults 0 1\n",
        ),
        (
            "etc/cloud/cloud.cfg.d/50-custom.cfg",
            "chpasswd: {expire: false, list: 'root:secret'}\npower_state: {mode: poweroff}\n",
            "its /etc/cloud/cloud.cfg.d/50-custom.cfg sets chpasswd, power_state, which may change",
            "remove chpasswd, power_state from /etc/cloud/cloud.cfg.d/50-custom.cfg",
            "ntp: {enabled: true}\n",
        ),
        (
            "etc/cloud/cloud.cfg.d/50-custom.cfg",
            "resize_rootfs: no\n",
            "its /etc/cloud/cloud.cfg.d/50-custom.cfg sets resize_rootfs, which may change",
            "remove resize_rootfs from /etc/cloud/cloud.cfg.d/50-custom.cfg",
            "resize_rootfs: yes\n",
        ),
        (
            "etc/fstab",
            "LABEL=writable / ext4 defaults 0 1\n/dev/mapper/data /data ext4 defaults 0 2\n",
            "its fstab mounts /dev/mapper/data at /data",
            "add `nofail`",
            "LABEL=writable / ext4 defaults 0 1\n/dev/mapper/data /data ext4 nofail 0 2\n/dev/zram0 none swap sw 0 0\n",
        ),
    ] {
        let with = |text: &'static str| base(move |root| put(root, path, text));
        refused(&plan(&with(odd), ""), message, hint);
        accepted(&plan(&with(mended), ""));
    }
    refused(
        &plan(&base(|root| put(root, "etc/cloud/cloud-init.disabled/x", "")), ""),
        "its /etc/cloud/cloud-init.disabled turns cloud-init off",
        "remove the folder /etc/cloud/cloud-init.disabled of the base",
    );
}

#[test]
fn a_boot_file_that_is_not_text_is_refused() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let file = image.dir.path().join("config");
    fs::write(&file, b"[all]\n# caf\xe9\n").unwrap();
    let drive = format!("{}@@{}", image.path.display(), image.boot.0);
    common::run(
        "mcopy",
        &["-o", "-i", &drive, file.to_str().unwrap(), "::config.txt"],
    );
    refused(
        &plan(&image, ""),
        "its /config.txt on the FAT partition is not UTF-8, so palmfarm cannot edit it",
        "save /config.txt, on the FAT partition of the base, as UTF-8 text",
    );
    put_boot(&image, "config.txt", "[all]\n# caf\u{e9}\n");
    accepted(&plan(&image, ""));
}

/// The decoder would need 256 MiB for each thread.
#[test]
fn a_base_that_is_packed_with_a_large_dictionary_is_to_be_unpacked() {
    if !can_run() || !common::have(&["xz"]) {
        return;
    }
    let image = base(|_| {});
    let packed = image.dir.path().join("image.img.xz");
    let options = ["-T1", "--block-size=1MiB", "--lzma2=preset=0,dict=256MiB"];
    accepted(&plan(&image, ""));
    common::run("xz", &[&options[..], &[image.path.to_str().unwrap()]].concat());
    let farm = image.dir.path().join("farm.yaml");
    let text = fs::read_to_string(&farm).unwrap();
    fs::write(&farm, text.replace("image.img", "image.img.xz")).unwrap();
    for command in [&["plan", "farm.yaml"][..], &["inspect", "image.img.xz"]] {
        refused(
            &palmfarm(image.dir.path(), command),
            "needs over 75497472 bytes of memory to decode",
            "unpack it with `xz -dk` and name the .img that comes out",
        );
    }
    common::run("xz", &["-dk", packed.to_str().unwrap()]);
    accepted(&plan(&image, ""));
}

#[test]
fn modules_mounts_and_firewalls_in_the_way_are_refused() {
    if !can_run() {
        return;
    }
    let firewall = "etc/systemd/system/sysinit.target.wants/nftables.service";
    let service = "/lib/systemd/system/nftables.service";
    let image = base(|root| {
        put(
            root,
            "etc/modprobe.d/site.conf",
            "# ours\ninstall bridge /bin/true\noptions ipv6 disable=1\n",
        );
        put(
            root,
            "etc/systemd/system/var-lib.mount",
            "[Mount]\nWhat=/dev/sda1\nWhere=/var/lib\n",
        );
        put(
            root,
            "etc/nftables.conf",
            "chain input {\n  type filter hook input priority 0; policy drop;\n}\n",
        );
        link(root, firewall, service);
    });
    let out = plan(&image, "");
    for (message, hint) in [
        (
            "line 2 of its /etc/modprobe.d/site.conf keeps the module bridge from being loaded, without which there is no \
             bridge",
            "remove line 2 of /etc/modprobe.d/site.conf of the base",
        ),
        (
            "line 3 of its /etc/modprobe.d/site.conf keeps the module ipv6 from being loaded",
            "remove line 3 of /etc/modprobe.d/site.conf of the base",
        ),
        (
            "its unit var-lib.mount mounts another filesystem at /var/lib, which would hide what palmfarm puts there",
            "remove the unit var-lib.mount from the base, or mask it",
        ),
        (
            "its /etc/systemd/system/sysinit.target.wants/nftables.service turns a firewall on",
            "remove the link /etc/systemd/system/sysinit.target.wants/nftables.service of the base",
        ),
    ] {
        refused(&out, message, hint);
    }
    // As the hints say; and what the packages bring.
    let mended = base(|root| {
        put(root, "etc/modprobe.d/site.conf", "# ours\nblacklist iwlwifi\n");
        link(root, "etc/systemd/system/var-lib.mount", "/dev/null");
        put(
            root,
            "etc/systemd/system/srv.mount",
            "[Mount]\nWhat=/dev/sda1\nWhere=/srv\n",
        );
        put(
            root,
            "etc/nftables.conf",
            "chain input {\n  type filter hook input priority 0; policy drop;\n}\n",
        );
        put(root, "etc/iptables/rules.v4", ":INPUT ACCEPT [0:0]\n");
        link(
            root,
            "etc/systemd/system/multi-user.target.wants/netfilter-persistent.service",
            "/lib/systemd/system/netfilter-persistent.service",
        );
    });
    accepted(&plan(&mended, ""));
}

#[test]
fn a_daemon_that_was_in_use_is_refused() {
    if !can_run() {
        return;
    }
    let image = base(|root| put(root, "var/snap/lxd/common/lxd/database/local.db", "x"));
    refused(
        &plan(&image, ""),
        "a container daemon was in use on it (/var/snap/lxd/common/lxd/database/local.db)",
        "use the image as Ubuntu publishes it",
    );
}
