//! Who may log in to a card of a base that somebody has changed.

use palmfarm::edit::tree::Volume;

use super::{accepted, base, can_run, card, kinds, plan, refused, text};
use crate::common::base::{link, put};

const MAIN: &str = "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\n";

#[test]
fn what_each_new_home_gets_lets_nobody_in() {
    if !can_run() {
        return;
    }
    let gone = [
        "etc/skel/.ssh/authorized_keys",
        "etc/skel/.ssh/rc",
        "etc/systemd/system/systemd-user-sessions.service",
        "etc/systemd/system/dbus.socket",
        "etc/systemd/system/system.slice",
    ];
    let image = base(|root| {
        for path in &gone[..2] {
            put(root, path, "planted\n");
        }
        for path in &gone[2..] {
            link(root, path, "/dev/null");
        }
        put(root, "etc/skel/.profile", "kept\n");
    });
    let made = card(&image, "");
    for (path, kind) in kinds(&made, &gone) {
        assert_eq!(kind, None, "{path}");
    }
    assert_eq!(text(&made, Volume::Root, "/etc/skel/.profile"), "kept\n");
}

#[test]
fn a_setting_of_sshd_that_nobody_knows_is_refused() {
    if !can_run() {
        return;
    }
    let with = |line: &'static str| {
        base(move |root| {
            put(root, "etc/ssh/sshd_config", MAIN);
            put(root, "etc/ssh/sshd_config.d/10-site.conf", line);
        })
    };
    for (line, key, what) in [
        (
            "UsePAM no\n",
            "UsePAM",
            "with which the farm's users may not be able to log in",
        ),
        (
            "HostKey /etc/ssh/my_key\n",
            "HostKey",
            "with which sshd would not have the host key that the card makes",
        ),
        (
            "LetAll yes\n",
            "LetAll",
            "and palmfarm does not know who could log in with it",
        ),
    ] {
        refused(
            &plan(&with(line), ""),
            &format!("its /etc/ssh/sshd_config.d/10-site.conf sets {key}, {what}"),
            &format!("remove the line with {key} from /etc/ssh/sshd_config.d/10-site.conf of the base"),
        );
    }
    accepted(&plan(&with("MaxAuthTries 3\n"), ""));
    for (path, odd, message, hint, mended) in [
        (
            "etc/default/ssh",
            "SSHD_OPTS=\"-o UsePAM=no\"\n",
            "its /etc/default/ssh gives sshd options",
            "write `SSHD_OPTS=` into /etc/default/ssh",
            "# Options\nSSHD_OPTS=\n",
        ),
        (
            "etc/default/useradd",
            "SHELL=/bin/sh\nEXPIRE=2020-01-01\n",
            "its /etc/default/useradd has EXPIRE, HOME, INACTIVE or SKEL",
            "remove these lines from /etc/default/useradd",
            "SHELL=/bin/sh\n",
        ),
    ] {
        let with = |text: &'static str| base(move |root| put(root, path, text));
        refused(&plan(&with(odd), ""), message, hint);
        accepted(&plan(&with(mended), ""));
    }
}

#[test]
fn what_a_farm_says_of_passwords_holds() {
    if !can_run() {
        return;
    }
    let hash =
        "$6$saltsalt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.";
    let passwords = format!("  - {{name: dora, password: {{hash: \"{hash}\"}}}}\nssh: {{password: true}}\n");
    let with = |name: &str, lines: &str| {
        let (path, lines) = (format!("etc/ssh/sshd_config.d/{name}"), lines.to_owned());
        base(move |root| {
            put(root, "etc/ssh/sshd_config", MAIN);
            put(root, &path, &lines);
        })
    };
    let site = "/etc/ssh/sshd_config.d/10-site.conf";
    let hint = format!("remove line 2 of {site} of the base");
    let image = with("10-site.conf", "# site\nPasswordAuthentication yes\n");
    refused(
        &plan(&image, ""),
        &format!("line 2 of its {site} sets PasswordAuthentication yes, which would count in place of `ssh: {{password: false}}` of the farm"),
        &hint,
    );
    accepted(&plan(&image, &passwords));
    let image = with("10-site.conf", "# site\nPasswordAuthentication no\n");
    refused(
        &plan(&image, &passwords),
        "sets PasswordAuthentication no, which would count in place of `ssh: {password: true}`",
        &hint,
    );
    accepted(&plan(&image, ""));
    // What Ubuntu's images have.
    let image = with("60-cloudimg-settings.conf", "PasswordAuthentication no\n");
    accepted(&plan(&image, ""));
    accepted(&plan(&image, &passwords));
}

#[test]
fn a_block_for_others_keeps_nobody_out() {
    if !can_run() {
        return;
    }
    let with = |line: &str| {
        let text = format!("{line}\nForceCommand internal-sftp\n");
        base(move |root| put(root, "etc/ssh/sshd_config.d/10-site.conf", &text))
    };
    for line in [
        "Match User craig,git",
        "Match Group sudo",
        "Match Address 192.0.2.0/24",
    ] {
        refused(
            &plan(&with(line), ""),
            "10-site.conf sets ForceCommand, with which the farm's users may not be able to log in",
            "remove the line with ForceCommand",
        );
    }
    for line in ["Match User git,backup", "Match Group sftponly"] {
        accepted(&plan(&with(line), ""));
    }
}
