//! YAML itself: what a farm may be written in, and how anything else is refused.

use expect_test::expect;

use super::{check, good, read, said, whole};

#[test]
fn invalid_yaml_is_refused_at_the_place_where_it_stops() {
    whole(
        "farm: 1\n\tbase: mini\n",
        &expect![[r#"
            1:7 error: this is not YAML: while scanning a plain scalar, found a tab (YAML is indented by spaces, never by tabs)
        "#]],
    );
}

#[test]
fn anchors_aliases_and_tags_are_refused() {
    check(
        "locale: &a C.UTF-8\ntimezone: *a\n",
        &expect![[r#"
            1:9 error: a farm must not have anchors (`&name`) (write the value out where it belongs)
            2:11 error: a farm must not have aliases (`*name`) (write the value out where it belongs)
        "#]],
    );
    check(
        "locale: !!str C\n",
        &expect![[r#"
            1:9 error: a farm must not have tags (`!name`) (write the value out where it belongs)
        "#]],
    );
}

#[test]
fn a_farm_is_one_document() {
    whole(
        "farm: 1\n---\nfarm: 1\n",
        &expect![[r#"
        2:1 error: a second document starts here, and a farm is one document
    "#]],
    );
    whole(
        "",
        &expect![[r#"
            1:1 error: the farm does not say its version (write `farm: 1` in the first line)
            1:1 error: the farm has no `base` (write `base: ubuntu-24.04-arm64`; `palmfarm base suggest` says which base suits which Pi)
            1:1 error: the farm has no `hostname` (write `hostname: palm`, or another name of your own)
        "#]],
    );
    whole(
        "# nothing\n",
        &expect![[r#"
            1:1 error: the farm does not say its version (write `farm: 1` in the first line)
            1:1 error: the farm has no `base` (write `base: ubuntu-24.04-arm64`; `palmfarm base suggest` says which base suits which Pi)
            1:1 error: the farm has no `hostname` (write `hostname: palm`, or another name of your own)
        "#]],
    );
    whole(
        "- farm\n",
        &expect![[r#"
            1:1 error: the farm is a mapping of keys, not a list
        "#]],
    );
    whole(
        "farm\n",
        &expect![[r#"
            1:1 error: the farm is a mapping of keys, not a single value
        "#]],
    );
    whole(
        "farm: 2\nfuture: key\n",
        &expect![[r#"
            1:7 error: this farm is of version 2, and this palmfarm reads version 1 (a newer palmfarm may read it)
        "#]],
    );
    whole(
        "farm: one\n",
        &expect![[r#"
            1:1 error: the farm has no `base` (write `base: ubuntu-24.04-arm64`; `palmfarm base suggest` says which base suits which Pi)
            1:1 error: the farm has no `hostname` (write `hostname: palm`, or another name of your own)
            1:7 error: `farm` takes the version of the file, a whole number (write `farm: 1` in the first line)
            1:1 warning: the farm has no users, so nobody can log in at the Pi (the login that comes with Ubuntu's image is removed)
        "#]],
    );
}

#[test]
fn keys_stand_once_and_are_known() {
    check(
        "hostname: palm\nhostname: plam\n",
        &expect![[r#"
            2:1 error: "hostname" is here twice
        "#]],
    );
    check(
        "files: {/etc/motd: a, /etc/motd: b}\n",
        &expect![[r#"
            1:20 error: there is no file "a" (names of files begin at the folder of the farm file)
            1:23 error: "/etc/motd" is here twice
        "#]],
    );
    check(
        "<<: {a: b}\n",
        &expect![[r#"
        1:1 error: unknown key "<<" in the farm (merge keys are not part of YAML 1.2: write the keys out)
    "#]],
    );
    check(
        "? [a, b]\n: c\n",
        &expect![[r#"
        1:3 error: a list or mapping stands where a key belongs (write the value out where it belongs)
    "#]],
    );
    check(
        "? {a: b}\n: c\n",
        &expect![[r#"
        1:3 error: a list or mapping stands where a key belongs (write the value out where it belongs)
    "#]],
    );
    check(
        "HOSTNAME: palm\n",
        &expect![[r#"
        1:1 error: unknown key "HOSTNAME" in the farm (did you mean "hostname"?)
    "#]],
    );
}

#[test]
fn columns_count_characters() {
    check(
        "rc_local: [ä, ö, {}]\n",
        &expect![[r#"
        1:18 error: `rc_local` takes a single value, not a mapping
    "#]],
    );
}

#[test]
fn line_ends_and_marks_of_other_systems_are_read() {
    good("\u{feff}timezone: UTC\n");
    good("hostname: palm\r\ntimezone: UTC\r\n");
    check(
        "hostname: palm\r\ntimezone: UCT+1\r\n",
        &expect![[r#"
            2:11 error: "UCT+1" is not a time zone (time zones have names such as Europe/Vienna; `timedatectl list-timezones` lists them)
        "#]],
    );
    whole(
        "farm: 1\nba\0se: mini\n",
        &expect![[r#"
            2:3 error: this is not YAML: found unprintable character
        "#]],
    );
}

#[test]
fn invalid_utf_8_is_refused_at_the_place_where_it_stops() {
    let result = palmfarm::farm::parse(
        "farm.yaml",
        b"farm: 1\nhostname: p\xe4lm\n",
        std::path::Path::new("/nonexistent"),
        &super::no_environment,
        None,
    );
    expect![[r#"
        2:12 error: the farm is not UTF-8 (from byte 19 on) (save it as UTF-8 in your editor, or: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW)
    "#]]
    .assert_eq(&super::brief(&result));
}

#[test]
fn a_deep_or_large_file_is_refused() {
    let deep = format!("rc_local: {}{}\n", "[".repeat(100), "]".repeat(100));
    check(
        &deep,
        &expect![[r#"
        1:42 error: this is nested more than 32 levels deep
    "#]],
    );
    let deeper = "[".repeat(10_000);
    check(
        &format!("rc_local: {deeper}"),
        &expect![[r#"
            1:10010 error: `[` is never closed (write `]` where the list ends)
        "#]],
    );
    let many = format!("rc_local: [{}]\n", "a,".repeat(30_000));
    check(
        &many,
        &expect![[r#"
        1:40010 error: the file has more than 20000 values
    "#]],
    );
}

#[test]
fn scalars_are_those_of_yaml_1_2() {
    let farm = good("ssh: {password: false}\nboot: {config: {a: yes, b: 0x10, c: 1.50, d: true, e: 'on'}}\n");
    assert_eq!(farm.boot.config, ["a=yes", "b=0x10", "c=1.50", "d=true", "e=on"]);
    check(
        "ssh: {password: yes}\n",
        &expect![[r#"
        1:17 error: `password` is true or false, not "yes" (write true, without quotes)
    "#]],
    );
    check(
        "ssh: {password: \"true\"}\n",
        &expect![[r#"
        1:17 error: `password` is true or false, not "true" (write true, without quotes)
    "#]],
    );
    check(
        "network: {vlan: \"42\"}\n",
        &expect![[r#"
        1:17 error: `vlan` is a whole number from 1 to 4094, not "42" (write it without quotes)
    "#]],
    );
    check(
        "network: {vlan: 0b1}\n",
        &expect![[r#"
        1:17 error: `vlan` is a whole number from 1 to 4094, not "0b1"
    "#]],
    );
}

#[test]
fn null_is_an_empty_list_or_mapping_but_not_a_value() {
    good("containers:\npackages:\nlxd:\nfiles: ~\nnetwork: null\n");
    check(
        "timezone:\nlocale: ~\n",
        &expect![[r#"
        1:1 error: `timezone` has no value (write one, or leave the key out)
        2:9 error: `locale` has no value (write one, or leave the key out)
    "#]],
    );
}

#[test]
fn secrets_are_never_shown() {
    for (line, secret) in [
        ("users: [{name: craig, password: hunter2}]", "hunter2"),
        ("users: [{name: craig, password: {hash: hunter2}}]", "hunter2"),
        ("users: [{name: craig, pasword: {hash: ANY_HASH}}]", "$6$rounds"),
        ("users: [{name: Craig, password: {hash: ANY_HASH}}]", "$6$rounds"),
        ("users: [{name: craig, password: [ANY_HASH]}]", "$6$rounds"),
        ("users: [{name: craig, password: {ANY_HASH: }}]", "$6$rounds"),
        (
            "users: [{name: craig, ssh_keys: ['-----BEGIN OPENSSH PRIVATE KEY----- c2VjcmV0']}]",
            "c2VjcmV0",
        ),
        ("users: [{name: craig, password: hunter2}", "hunter2"),
        ("users: [{name: craig, password: {hash: ANY_HASH}", "$6$rounds"),
        ("users: [{name: craig, password: \"hunter2}]", "hunter2"),
        ("passwd: hunter2", "hunter2"),
        ("ANY_HASH: x", "$6$rounds"),
    ] {
        let result = read(&super::completed(line));
        let (text, problems) = said(&result);
        let shown = text.render(problems);
        assert!(problems.errors() > 0, "{line}");
        assert!(!shown.contains(secret), "{shown}");
    }
}
