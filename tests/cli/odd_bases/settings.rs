//! Settings of cloud-init, words of the kernel command line and generators with which a card would not be as the farm
//! declares it.

use palmfarm::edit::tree::Volume;

use super::{accepted, base, can_run, card, kinds, plan, put_boot, refused, run, text};
use crate::common::base::{link, put};
use crate::told;

#[test]
fn settings_of_cloud_init_that_ubuntu_does_not_have_are_refused() {
    if !can_run() {
        return;
    }
    let with = |text: &'static str| base(move |root| put(root, "etc/cloud/cloud.cfg.d/50-site.cfg", text));
    let site = "/etc/cloud/cloud.cfg.d/50-site.cfg";
    for (text, keys) in [
        ("allow_userdata: false\n", "allow_userdata"),
        (
            "datasource: {NoCloud: {user-data: \"#cloud-config\\n{}\", meta-data: {instance-id: x}}}\n",
            "datasource.NoCloud.meta-data, datasource.NoCloud.user-data",
        ),
        (
            "datasource: {NoCloud: {seedfrom: \"http://192.0.2.1/\"}}\n",
            "datasource.NoCloud.seedfrom",
        ),
        ("lxd: {init: {trust_password: x}}\n", "lxd"),
        ("1: {}\nallow_userdata: false\n", "1, allow_userdata"),
    ] {
        let out = plan(&with(text), "");
        refused(
            &out,
            &format!("its {site} sets {keys}, which may change what cloud-init does on the card"),
            &format!("remove {keys} from {site} of the base, and declare in farm.yaml what the card needs"),
        );
    }
    for text in ["a: [\n", "## template: jinja\n{}\n"] {
        refused(
            &plan(&with(text), ""),
            &format!("its {site} is not YAML that palmfarm can read"),
            &format!("remove {site} of the base"),
        );
    }
    accepted(&plan(&with("# Nothing.\n"), ""));
    accepted(&plan(&with("ntp: {enabled: true}\n"), ""));
}

#[test]
fn words_and_generators_that_take_something_from_the_card_are_undone() {
    if !can_run() {
        return;
    }
    let gone = [
        "etc/systemd/system-generators/systemd-fstab-generator",
        "usr/local/lib/systemd/system-generators/some-generator",
    ];
    let kept = "etc/systemd/system-generators/own-generator";
    let image = base(|root| {
        link(root, gone[0], "/dev/null");
        put(root, "usr/lib/systemd/system-generators/some-generator", "");
        put(root, gone[1], "#!/bin/true\n");
        put(root, kept, "#!/bin/true\n");
    });
    put_boot(
        &image,
        "cmdline.txt",
        "console=tty1 cc:{runcmd:[poweroff]} x end_cc root=LABEL=writable url=http://192.0.2.1/ \
         sysctl.net.ipv6.conf.all.disable_ipv6=1 systemd.volatile=overlay systemd.machine-id=0123456789abcdef0123456789abcdef \
         systemd.debug-shell ip=dhcp modprobe.blacklist=brcmfmac rootwait\n",
    );
    let said = told(&plan(&image, ""));
    let words = "cc:, url, sysctl.net.ipv6.conf.all.disable_ipv6, systemd.volatile, systemd.machine-id, systemd.debug-shell, ip";
    assert!(
        said.contains(&format!("(undone: the base sets {words})")),
        "{said}"
    );
    let made = card(&image, "");
    assert_eq!(
        text(&made, Volume::Boot, "/cmdline.txt"),
        "console=tty1 root=LABEL=writable modprobe.blacklist=brcmfmac rootwait cgroup_enable=memory cgroup_memory=1\n"
    );
    for (path, kind) in kinds(&made, &gone) {
        assert_eq!(kind, None, "{path}");
    }
    assert!(kinds(&made, &[kept])[0].1.is_some());
    // The list is refused: what else is in it may be meant.
    put_boot(
        &image,
        "cmdline.txt",
        "root=LABEL=writable module_blacklist=brcmfmac,bridge\n",
    );
    refused(
        &plan(&image, ""),
        "has module_blacklist=brcmfmac,bridge, which keeps the kernel from loading a module that the card needs",
        "remove module_blacklist=brcmfmac,bridge from cmdline.txt",
    );
}

#[test]
fn a_farm_is_warned_of_such_words() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let check = |word: &str| {
        let out = run(
            &image,
            "craig",
            &format!("boot: {{cmdline: [\"{word}\"]}}\n"),
            &["check", "farm.yaml"],
        );
        told(&out)
    };
    for (word, why) in [
        (
            "systemd.machine_id=0123",
            "which gives every card the same machine ID",
        ),
        ("cc:{}", "from which cloud-init would take other settings"),
        (
            "systemd.volatile=yes",
            "which keeps everything that the Pi makes in memory",
        ),
        (
            "modprobe.blacklist=veth",
            "which keeps the kernel from loading a module",
        ),
    ] {
        let said = check(word);
        assert!(
            said.contains(&format!("the kernel would have `{word}`, {why}")),
            "{said}"
        );
    }
    let said = check("sysctl.net.ipv6.conf.all.disable_ipv6=1");
    assert!(
        said.contains("turns off IPv6, and the network of this farm has it"),
        "{said}"
    );
}
