//! The seed of a card in a scratch folder: boots that were cut short, and what somebody has changed since.

use std::os::unix::fs::PermissionsExt;

use palmfarm_protocol::paths::HOST;

use super::*;
use crate::root::scratch::Scratch;

const IMAGE: [(&str, &str); 4] = [
    (SEED, "instance-id: x\n"),
    ("/etc/passwd", "root\n"),
    ("/etc/shadow", "root:*\n"),
    ("/etc/group", "sudo:\n"),
];

fn cloud_init_begins(root: &Root) {
    root.write("/etc/passwd", b"root\ncraig\n").unwrap();
    root.write("/etc/passwd.lock", b"400").unwrap();
    root.write(MADE[0], b"craig ALL\n").unwrap();
    root.write("/var/lib/cloud/instances/x/sem/config_users_groups", b"")
        .unwrap();
    std::os::unix::fs::symlink("instances/x", root.at("/var/lib/cloud/instance")).unwrap();
}

#[test]
fn a_first_boot_that_was_cut_short_starts_again() {
    let scratch = Scratch::new("seed", &IMAGE);
    let root = &scratch.0;
    let shadow = fs::Permissions::from_mode(0o640);
    fs::set_permissions(root.at("/etc/shadow"), shadow).unwrap();
    for boot in 0..3 {
        assert_eq!(prepare(root).unwrap(), Change::Changed, "boot {boot}");
        assert_eq!(root.read("/etc/passwd").unwrap(), "root\n", "boot {boot}");
        assert_eq!(root.names("/var/lib/cloud"), ["seed"], "boot {boot}");
        let mut names = root.names("/etc");
        names.retain(|name| name != "sudoers.d");
        assert_eq!(names, ["group", "passwd", "shadow"], "boot {boot}");
        assert!(!root.has(MADE[0]), "boot {boot}");
        let mode = fs::metadata(root.at("/etc/shadow")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "boot {boot}");
        cloud_init_begins(root);
    }
}

#[test]
fn accounts_that_somebody_may_have_changed_stay() {
    let mut login = vec![7_u8];
    login.resize(384, 0);
    // A run waited in vain, and somebody logged in.
    for given_up in [true, false] {
        let scratch = Scratch::new("seed-left", &IMAGE);
        let root = &scratch.0;
        root.write(WTMP, &login).unwrap();
        prepare(root).unwrap();
        cloud_init_begins(root);
        if given_up {
            step_for(root, Duration::ZERO).unwrap_err();
        } else {
            root.write(WTMP, &login.repeat(2)).unwrap();
        }
        root.write("/etc/passwd", b"root\ncraig\nmine\n").unwrap();
        for _ in 0..2 {
            assert_eq!(prepare(root).unwrap(), Change::Unchanged, "{given_up}");
            assert_eq!(root.read("/etc/passwd").unwrap(), "root\ncraig\nmine\n");
        }
    }
}

/// What a module takes as a sign that its work is done must not outlive that work.
#[test]
fn signs_and_homes_of_a_cut_boot_are_as_in_the_image() {
    let with_skeleton = [
        &IMAGE[..],
        &[("/etc/skel/.profile", "umask 022\n"), ("/home/old/a", "")],
    ]
    .concat();
    let scratch = Scratch::new("seed-signs", &with_skeleton);
    let root = &scratch.0;
    root.write("/etc/locale.gen", b"# none\n").unwrap();
    root.write(
        HOST,
        b"{\"users\": [{\"name\": \"craig\"}, {\"name\": \"old\"}]}\n",
    )
    .unwrap();
    prepare(root).unwrap();
    cloud_init_begins(root);
    root.write("/etc/default/locale", b"LANG=en_GB.UTF-8\n").unwrap();
    root.write("/etc/locale.gen", b"# none\nen_GB.UTF-8 UTF-8\n")
        .unwrap();
    root.write(MADE[1], b"").unwrap();
    root.write("/home/craig/.profile", b"").unwrap();
    root.write("/home/craig/.ssh/authorized_keys", b"").unwrap();
    root.write("/home/old/.profile", b"").unwrap();
    assert_eq!(prepare(root).unwrap(), Change::Changed);
    assert!(!root.has("/etc/default/locale") && !root.has(MADE[1]));
    assert_eq!(root.read("/etc/locale.gen").unwrap(), "# none\n");
    assert_eq!(root.names("/home"), ["old"], "the image's own stays");
    assert_eq!(root.names("/home/old"), [".profile", "a"]);
    // A home that somebody has used stays.
    for used in ["notes", ".ssh/id_ed25519"] {
        root.write("/home/craig/.profile", b"umask").unwrap();
        root.write(&format!("/home/craig/{used}"), b"mine").unwrap();
        prepare(root).unwrap();
        assert_eq!(root.read(&format!("/home/craig/{used}")).unwrap(), "mine");
        fs::remove_file(root.at(&format!("/home/craig/{used}"))).unwrap();
    }
    // An account for a person that only a person can have made stays, and with it all the others.
    let accounts = "root\ncraig:x:1000:\nbob:x:1001:1001::/home/bob:/bin/bash\n";
    root.write("/etc/passwd", accounts.as_bytes()).unwrap();
    assert_eq!(prepare(root).unwrap(), Change::Unchanged);
    assert_eq!(root.read("/etc/passwd").unwrap(), accounts);
}

#[test]
fn what_cloud_init_did_not_do_is_reported_until_it_is_there() {
    let scratch = Scratch::new("seed-missing", &IMAGE);
    let root = &scratch.0;
    root.write(HOST, b"{\"users\": [{\"name\": \"craig\"}]}\n")
        .unwrap();
    prepare(root).unwrap();
    let result = r#"{"v1": {"datasource": "x", "errors": ["('users_groups', ValueError('no'))"]}}"#;
    root.write(RESULT, result.as_bytes()).unwrap();
    let error = step_for(root, Duration::ZERO).unwrap_err();
    assert!(error.message.contains("the user craig was not made"), "{error}");
    assert_eq!(error.output, ["('users_groups', ValueError('no'))"]);
    let error = step_for(root, Duration::ZERO).unwrap_err();
    assert!(error.message.contains("the user craig was not made"), "{error}");
    let id = fs::metadata(root.dir()).unwrap().uid();
    fs::create_dir_all(root.at("/home/craig")).unwrap();
    root.write(
        "/etc/passwd",
        format!("craig:x:{id}:5::/home/craig:\n").as_bytes(),
    )
    .unwrap();
    assert_eq!(step_for(root, Duration::ZERO).unwrap(), Change::Unchanged);
}

#[test]
fn a_complete_first_boot_stays() {
    let scratch = Scratch::new("seed-whole", &IMAGE);
    let root = &scratch.0;
    prepare(root).unwrap();
    cloud_init_begins(root);
    let error = step_for(root, Duration::ZERO).unwrap_err();
    assert!(error.message.contains("is not done"), "{error}");
    root.write(RESULT, b"{}").unwrap();
    assert_eq!(step_for(root, Duration::ZERO).unwrap(), Change::Changed);
    assert_eq!(step_for(root, Duration::ZERO).unwrap(), Change::Unchanged);
    assert_eq!(root.names(KEPT), [""; 0], "no hash is left in two places");
    assert_eq!(prepare(root).unwrap(), Change::Unchanged);
    assert_eq!(root.read("/etc/passwd").unwrap(), "root\ncraig\n");
    assert!(root.has("/var/lib/cloud/instance/sem/config_users_groups"));
}

/// A cut while the accounts are copied: those in `/etc` are still the image's.
#[test]
fn accounts_that_were_half_copied_are_copied_again() {
    let scratch = Scratch::new("seed-half", &IMAGE);
    let root = &scratch.0;
    root.write("/var/lib/palmfarm/accounts/passwd", b"half").unwrap();
    prepare(root).unwrap();
    assert_eq!(root.read("/var/lib/palmfarm/accounts/passwd").unwrap(), "root\n");
    assert_eq!(root.read("/etc/passwd").unwrap(), "root\n");
}

#[test]
fn a_cloud_init_that_is_disabled_is_not_waited_for() {
    for off in [
        ("/etc/cloud/cloud-init.disabled", ""),
        ("/proc/cmdline", "quiet cloud-init=disabled ro\n"),
    ] {
        let scratch = Scratch::new("seed-off", &[&IMAGE[..], &[off]].concat());
        let error = step_for(&scratch.0, Duration::from_secs(600)).unwrap_err();
        assert!(error.message.contains("is disabled by"), "{error}");
    }
    let enabled = [
        ("/etc/cloud/cloud-init.disabled", ""),
        ("/proc/cmdline", "cloud-init=enabled"),
    ];
    let scratch = Scratch::new("seed-on", &[&IMAGE[..], &enabled].concat());
    let error = step_for(&scratch.0, Duration::ZERO).unwrap_err();
    assert!(error.message.contains("is not done"), "{error}");
}

#[test]
fn a_host_without_our_seed_is_left_alone() {
    let scratch = Scratch::new("seed-none", &IMAGE[1..]);
    assert!(!concerns(&scratch.0));
    assert_eq!(prepare(&scratch.0).unwrap(), Change::Unchanged);
    assert_eq!(scratch.0.names("/"), ["etc"]);
}

/// Accounts that somebody may have changed stay, and the locale is generated all the same.
#[test]
fn a_lost_locale_is_generated_again_whoever_has_logged_in() {
    let scratch = Scratch::new("seed-locale", &IMAGE);
    let root = &scratch.0;
    root.write(HOST, b"{\"locale\": \"xx_YY.UTF-8\"}\n").unwrap();
    prepare(root).unwrap();
    cloud_init_begins(root);
    root.write("/etc/default/locale", b"LANG=xx_YY.UTF-8\n").unwrap();
    root.write("/var/lib/cloud/instances/x/sem/config_locale", b"")
        .unwrap();
    let mut login = vec![7_u8];
    login.resize(384, 0);
    root.write(WTMP, &login).unwrap();
    assert_eq!(prepare(root).unwrap(), Change::Changed);
    assert_eq!(root.read("/etc/passwd").unwrap(), "root\ncraig\n");
    assert!(!root.has("/etc/default/locale"));
    assert_eq!(
        root.names("/var/lib/cloud/instances/x/sem"),
        ["config_users_groups"]
    );
    // What the owner has set in its place stays.
    root.write("/etc/default/locale", b"LANG=C.UTF-8\n").unwrap();
    assert_eq!(prepare(root).unwrap(), Change::Unchanged);
}
