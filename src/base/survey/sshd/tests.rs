//! Which settings of sshd count as strange logins, as lockouts, and as harmless.

use super::*;

fn file(path: &str, text: &str) -> BaseText {
    BaseText {
        path: CardPath::new(path).unwrap(),
        text: text.into(),
    }
}

/// What a line of the package's file does, and its key as messages have it.
fn said(line: &str) -> Option<(Effect, String)> {
    let refusals = refusals(Some(&file(MAIN, line)), &[]);
    assert!(refusals.len() < 2, "{line}");
    refusals.into_iter().next().map(|refusal| match refusal {
        BaseRefusal::SshLogin { key, .. } => (Effect::Others, key.into()),
        BaseRefusal::SshLockout { key, .. } => (Effect::Fewer, key.into()),
        BaseRefusal::SshHostKey { key, .. } => (Effect::HostKey, key.into()),
        other => panic!("{line}: {other}"),
    })
}

#[test]
fn the_list_of_harmless_keys_is_in_small_letters() {
    assert!(HARMLESS
        .iter()
        .all(|key| key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())));
    for key in PASSWORDS {
        assert!(!HARMLESS.contains(&key.to_ascii_lowercase().as_str()), "{key}");
    }
}

/// Those of Ubuntu 18.04 to 26.04, without comments.
#[test]
fn what_ubuntu_has_is_harmless() {
    for text in [
        "ChallengeResponseAuthentication no\nUsePAM yes\nX11Forwarding yes\nPrintMotd no\nAcceptEnv LANG LC_*\n\
         Subsystem\tsftp\t/usr/lib/openssh/sftp-server\nPasswordAuthentication no\n",
        "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\n\
         PrintMotd no\nAcceptEnv LANG LC_* COLORTERM NO_COLOR\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
    ] {
        let main = file(MAIN, text);
        let drop_ins = [
            file("etc/ssh/sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n"),
            file("etc/ssh/sshd_config.d/60-cloudimg-settings.conf", "PasswordAuthentication no\n"),
        ];
        assert_eq!(refusals(Some(&main), &drop_ins), []);
        let said = passwords(Some(&main), &drop_ins);
        assert!(said.iter().all(|said| said.key != "PasswordAuthentication" && !said.allows), "{said:?}");
    }
}

#[test]
fn sshd_lets_in_whom_its_file_says() {
    for harmless in [
        "",
        "#TrustedUserCAKeys /etc/ssh/ca.pub",
        "trustedusercakeys=none",
        "PasswordAuthentication yes",
        "AuthorizedKeysFile %h/.ssh/authorized_keys .ssh/authorized_keys2",
        "Include /etc/ssh/sshd_config.d/*.conf",
        "Include sshd_config.d/*.conf",
        "Port 22",
        "ListenAddress ::",
        "PubkeyAuthentication yes",
        "DenyUsers root",
        "UsePAM yes # as Debian has it",
        "  ciphers  aes128-ctr",
        "HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key",
    ] {
        assert_eq!(said(harmless), None, "{harmless}");
    }
    let check =
        |line: &str, effect: Effect, key: &str| assert_eq!(said(line), Some((effect, key.into())), "{line}");
    for (line, key) in [
        ("TrustedUserCAKeys /etc/ssh/ca.pub", "TrustedUserCAKeys"),
        ("PermitEmptyPasswords yes", "PermitEmptyPasswords"),
        ("HostbasedAuthentication yes", "HostbasedAuthentication"),
        ("Include /etc/ssh/x/*.conf", "Include"),
        ("Include /etc/ssh/sshd_config.d/x/*.conf", "Include"),
        ("Include /etc/ssh/sshd_config.d2/*.conf", "Include"),
    ] {
        check(line, Effect::Others, key);
    }
    for other in [
        "/etc/keys",
        "%h/keys",
        "keys",
        "/etc/ssh/keys/%u",
        "\"/etc/keys\"",
        "%h/%h/.rhosts",
    ] {
        let line = format!("AuthorizedKeysFile .ssh/authorized_keys {other}");
        check(&line, Effect::Others, "AuthorizedKeysFile");
    }
    for (line, key) in [
        ("AuthorizedKeysFile none", "AuthorizedKeysFile"),
        ("AuthorizedKeysFile .ssh/authorized_keys2", "AuthorizedKeysFile"),
        ("allowusers ubuntu", "AllowUsers"),
        ("DenyUsers root craig", "DenyUsers"),
        ("ListenAddress 192.168.77.1", "ListenAddress"),
        ("Port 2222", "Port"),
        ("PubkeyAuthentication no", "PubkeyAuthentication"),
        ("AddressFamily inet", "AddressFamily"),
        (
            "AuthenticationMethods publickey,password",
            "AuthenticationMethods",
        ),
        ("UsePAM no", "UsePAM"),
        ("ForceCommand internal-sftp", "ForceCommand"),
    ] {
        check(line, Effect::Fewer, key);
    }
    for (line, key) in [
        (
            "HostKey /etc/ssh/my_key\nHostKey /etc/ssh/ssh_host_ed25519_key",
            "HostKey",
        ),
        // The one key that a farm can bring is of the other kind.
        ("HostKey /etc/ssh/ssh_host_rsa_key", "HostKey"),
        ("HostKeyAgent SSH_AUTH_SOCK", "HostKeyAgent"),
    ] {
        check(line, Effect::HostKey, key);
    }
    let path = CardPath::new(MAIN).unwrap();
    let key = "LetAnybodyIn".to_owned();
    assert_eq!(
        refusals(Some(&file(MAIN, "LetAnybodyIn yes\n")), &[]),
        [BaseRefusal::SshUnknown { path, key }]
    );
}

#[test]
fn of_several_values_the_first_counts() {
    let include = "Include /etc/ssh/sshd_config.d/*.conf\n";
    let check = |main: &str, drop_ins: &[(&str, &str)], expect: &[(&str, usize, &str, bool)]| {
        let files: Vec<_> = drop_ins
            .iter()
            .map(|(name, text)| file(&format!("{DROP_INS}/{name}"), text))
            .collect();
        let main = file(MAIN, main);
        let said = passwords(Some(&main), &files);
        let said: Vec<_> = said
            .iter()
            .map(|said| (said.path.name(), said.line, said.key, said.allows))
            .collect();
        assert_eq!(said, expect, "{drop_ins:?}");
    };
    let (password, interactive) = ("PasswordAuthentication", "KbdInteractiveAuthentication");
    check(
        include,
        &[("10-a.conf", "#\npasswordauthentication yes\n")],
        &[("10-a.conf", 2, password, true)],
    );
    check(include, &[("60-a.conf", "PasswordAuthentication yes\n")], &[]);
    // cloud-init changes this one, and this is not read before its own.
    check("PasswordAuthentication yes\n", &[], &[]);
    check(&format!("{include}PasswordAuthentication yes\n"), &[], &[]);
    check(
        &format!("PasswordAuthentication no\n{include}"),
        &[("10-a.conf", "PasswordAuthentication yes\n")],
        &[("sshd_config", 1, password, false)],
    );
    check(
        &format!("{include}KbdInteractiveAuthentication yes\n"),
        &[("70-a.conf", "KbdInteractiveAuthentication no\n")],
        &[("70-a.conf", 1, interactive, false)],
    );
    check(
        &format!("{include}Match User a\nPasswordAuthentication yes\n"),
        &[("10-a.conf", "PasswordAuthentication no\n")],
        &[
            ("sshd_config", 3, password, true),
            ("10-a.conf", 1, password, false),
        ],
    );
}

#[test]
fn a_block_is_for_those_whom_it_names() {
    let whom = |line: &str| {
        let text = format!("{line}\nForceCommand internal-sftp\n");
        let refusals = refusals(Some(&file(MAIN, &text)), &[]);
        match refusals.as_slice() {
            [BaseRefusal::SshLockout { only_for, .. }] => only_for.clone(),
            other => panic!("{line}: {other:?}"),
        }
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (line, expect) in [
        (
            "Match User git,backup",
            SshMatch::Users(names(&["git", "backup"])),
        ),
        (
            "match user=git Address 192.0.2.0/24",
            SshMatch::Users(names(&["git"])),
        ),
        ("Match Group sftponly", SshMatch::Groups(names(&["sftponly"]))),
        ("Match User git\nMatch all", SshMatch::Anybody),
        ("Match User *,!git", SshMatch::Anybody),
        ("Match Address 192.0.2.0/24", SshMatch::Anybody),
        ("Match User", SshMatch::Anybody),
        ("", SshMatch::Anybody),
    ] {
        assert_eq!(whom(line), expect, "{line}");
    }
}
