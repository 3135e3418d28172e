//! Texts that are not YAML, each with the mistake that a person made in it.

use expect_test::{expect, Expect};

use super::{brief, no_environment, parse};

/// What is said of `text`, which has one mistake.
#[track_caller]
fn broken(text: &str, expect: &Expect) {
    let result = parse(
        "farm.yaml",
        text.as_bytes(),
        "/nonexistent".as_ref(),
        &no_environment,
        None,
    );
    assert!(result.is_err(), "{text}");
    expect.assert_eq(&brief(&result));
}

#[test]
fn indentation() {
    broken(
        "farm: 1\ncontainers:\n  web:\n    image: a\n    run: [b]\n   publish: c\n",
        &expect![[r#"
            6:4 error: this line is indented by 3, and the keys above it by 4 (`run` in line 5) (indent it by 4 if it belongs with them, or by 2 (`web` in line 3))
        "#]],
    );
    broken(
        "farm: 1\nnetwork:\n    uplink: eth0\n  bridge: br0\n",
        &expect![[r#"
        4:3 error: this line is indented by 2, and the keys above it by 4 (`uplink` in line 3) (indent it by 4 if it belongs with them, or by 0 (`network` in line 2))
    "#]],
    );
    broken(
        "farm: 1\n base: mini\n",
        &expect![[r#"
        2:2 error: this line is indented by 1, and the key above it by 0 (`farm` in line 1) (indent it by 0, too: a key with a value in its line has no keys below it)
    "#]],
    );
    broken(
        "farm: 1\nnetwork:\n  uplink: eth0\n    bridge: br0\n",
        &expect![[r#"
        4:5 error: this line is indented by 4, and the key above it by 2 (`uplink` in line 3) (indent it by 2, too: a key with a value in its line has no keys below it)
    "#]],
    );
    broken(
        "users:\n  - name: nina\n   sudo: password\n",
        &expect![[r#"
        3:4 error: this line is indented by 3, and the keys above it by 4 (`name` in line 2) (indent it by 4, too)
    "#]],
    );
    broken(
        "users:\n  - name: nina\n     sudo: password\n",
        &expect![[r#"
        3:6 error: this line is indented by 5, and the key above it by 4 (`name` in line 2) (indent it by 4, too: a key with a value in its line has no keys below it)
    "#]],
    );
    broken(
        "users:\n    - name: nina\n  - name: dora\n",
        &expect![[r#"
        3:3 error: this line is indented by 2, and the items above it by 4 (line 2) (indent it by 4 if it belongs with them, or by 0 (`users` in line 1))
    "#]],
    );
}

#[test]
fn colons() {
    broken(
        "farm: 1\nbase mini\nhostname: palm\n",
        &expect![[r#"
        2:1 error: there is no colon after `base` (write `base: …`)
    "#]],
    );
    broken(
        "farm 1\nbase: mini\n",
        &expect![[r#"
        1:1 error: there is no colon after `farm` (write `farm: …`)
    "#]],
    );
    broken(
        "farm: 1\nbase:mini\nhostname: palm\n",
        &expect![[r#"
        2:1 error: there is no blank after the colon of `base` (write `base: …`)
    "#]],
    );
    broken(
        "farm: 1\nnetwork:\n  uplink eth0\n  bridge: br0\n",
        &expect![[r#"
        3:3 error: there is no colon after `uplink` (write `uplink: …`)
    "#]],
    );
    broken(
        "farm: 1\nhostname: palm\npassword hunter2\n",
        &expect![[r#"
        3:1 error: there is no colon after `password` (write `password: …`)
    "#]],
    );
    broken(
        "rc_local:\n  - echo a: b: c\ncontainers: \n  web: echo a: b\n",
        &expect![[r#"
        2:13 error: there is a second `: ` in this line, which makes a key of the value (put the whole value in quotes)
    "#]],
    );
    broken(
        "network:\n  ipv6: {address: fe80::1/64, gateway: fe80::}\n",
        &expect![[r#"
        2:40 error: this value ends in a colon, which makes a key of it (put the value in quotes, as an IPv6 address such as "fe80::")
    "#]],
    );
    broken(
        "network:\n  gateway: fe80::\n  uplink: eth0\n",
        &expect![[r#"
        2:12 error: this value ends in a colon, which makes a key of it (put the whole value in quotes)
    "#]],
    );
    broken(
        "network: {uplink: eth0 bridge: br0}\n",
        &expect![[r#"
        1:24 error: there is no comma before this key (write a comma before it, or put the value in quotes if `: ` is a part of it)
    "#]],
    );
}

#[test]
fn brackets_and_quotes() {
    broken(
        "users:\n  - name: nina\n    groups: [sudo, lxd\n    sudo: password\n",
        &expect![[r#"
        3:13 error: `[` is never closed (write `]` where the list ends)
    "#]],
    );
    broken(
        "farm: 1\nnetwork: {uplink: eth0\n",
        &expect![[r#"
        2:10 error: `{` is never closed (write `}` where the mapping ends)
    "#]],
    );
    broken(
        "users: [{name: nina, groups: [sudo, lxd}]\n",
        &expect![[r#"
        1:30 error: `[` is not closed before the `}` that comes next (write `]` where the list ends)
    "#]],
    );
    broken(
        "network: {uplink: eth0}}\n",
        &expect![[r#"
        1:24 error: `}` closes nothing: its opening bracket is missing or was closed before (take it out, or open it)
    "#]],
    );
    broken(
        "farm: 1\nhostname: \"palm\nbase: mini\n",
        &expect![[r#"
        2:11 error: the quote " is never closed (write another " where the value ends)
    "#]],
    );
    broken(
        "farm: 1\nhostname: 'palm\n",
        &expect![[r#"
        2:11 error: the quote ' is never closed (write another ' where the value ends)
    "#]],
    );
    broken(
        "containers:\n  web: {image: \"images:a, run: [\"apk add\"]}\n",
        &expect![[r#"
        2:34 error: text follows a value that has ended (write a comma before it; if a quote is missing in this line, add it)
    "#]],
    );
    broken(
        "rc_local: [\"echo it's\", 'it's']\n",
        &expect![[r#"
        1:29 error: text follows a value that has ended (write a comma before it; if a quote is missing in this line, add it)
    "#]],
    );
    broken(
        "hostname: \"palm\" # fine\ntimezone: \"UTC\" no\n",
        &expect![[r#"
        2:17 error: text follows a value that has ended (put the whole value in quotes; a quote within '…' is written twice, and one within "…" as \")
    "#]],
    );
    broken(
        "hostname: @palm\n",
        &expect![[r#"
        1:11 error: a value cannot begin with `@` (put the value in quotes)
    "#]],
    );
}

#[test]
fn lists_and_keys() {
    broken(
        "containers:\n  web:\n    image: a\n  - name: w\n    image: b\n",
        &expect![[r#"
        4:3 error: a list item (`- `) stands among keys (`web` in line 2) (write it as the others, `NAME: …` without `- `, or indent it below the key whose list it is)
    "#]],
    );
    broken(
        "containers:\n  - name: w\n    image: b\n  web:\n    image: a\n",
        &expect![[r#"
        4:3 error: a key stands among the items of a list (line 2) (begin it with `- `, or indent it as the keys of the item above)
    "#]],
    );
    broken(
        "users: - name: nina\n",
        &expect![[r#"
        1:8 error: a list item (`- `) stands in the line of its key (begin each item on a line of its own below the key, or write [A, B])
    "#]],
    );
    broken(
        "rc_local:\n- a\n-b\n- c: d\n  - e\n",
        &expect![[r#"
        3:1 error: there is no blank after the dash of this item (begin each item with `- `)
    "#]],
    );
}

#[test]
fn what_is_fine_is_not_blamed() {
    // Each has its mistake, which the parser alone finds, in the last line.
    for fine in [
        "rc_local:\n- a\n- b\nhostname: palm\n",
        "containers:\n  web:\n    run:\n    - one\n    - two\n    image: a\n",
        "a: |\n  text: [ \" more\n   text\nb: >-\n  {\n\nc: d\n",
        "a: \"one\n  two: three\"\nb: 'it''s\n  so'\n",
        "a: [one,\n  {two: 2},\n  three]\nb: plain\n  text\n  goes on\n",
        "a: # comment: [\n  - b # {\n  -   c: d\n      e: f\n",
        "x:\n- - a\n  - b\n- c: {d: \"e: f\", g: http://h, i: ::1}\n",
        "\"quoted key\": 1\n'another': [2]\nurl: http://a:80/b\n",
        "key:\n  - |\n    text: a\n     b\n  - c\n",
    ] {
        let text = format!("{fine}last: \"\\q\"\n");
        let result = parse(
            "farm.yaml",
            text.as_bytes(),
            "/nonexistent".as_ref(),
            &no_environment,
            None,
        );
        let said = brief(&result);
        let last = text.lines().count();
        let is_the_parsers = said.starts_with(&format!("{last}:")) && said.contains("this is not YAML: ");
        assert!(is_the_parsers, "{text}\n{said}");
    }
}
