//! `farm.yaml` as its owner meets it: text in, problems out.

use std::path::Path;

use palmfarm::farm::parse;

/// The problems of the farm in `text`, as a terminal shows them; `ok` where there is none.
fn problems(text: &str) -> String {
    let none = Path::new("/nonexistent");
    match parse("farm.yaml", text.as_bytes().to_vec(), none) {
        Ok(farm) if farm.warnings.is_empty() => "ok\n".into(),
        Ok(farm) => farm.text.render(&farm.warnings),
        Err(refused) => refused.text().render(refused.problems()),
    }
}

#[test]
fn the_whole_of_version_1_is_read() {
    let text = include_str!("example.yaml");
    let farm = match parse("farm.yaml", text.into(), Path::new(".")) {
        Ok(farm) => farm.farm,
        Err(refused) => panic!("{}", refused.text().render(refused.problems())),
    };
    assert_eq!(farm.cards["palm2"].network.as_ref().unwrap().vlan, Some(42));
    assert_eq!(farm.containers[2].names().len(), 9);
}

#[test]
fn every_problem_is_told_once() {
    let text = "\
farm: 1
base: mini
hostnam: palm
users:
  - name: Craig
    password: hunter2
    groups: sudo
network: {vlan: 5000, bridge: br0, uplink: }
containers:
  web: {imag: x}
";
    let expect = "\
farm.yaml:3:1: error: unknown key \"hostnam\" in the farm
  3 | hostnam: palm
    | ^^^^^^^
hint: did you mean \"hostname\"?
farm.yaml:5:11: error: \"Craig\" is no login name: it holds 'C'
  5 |   - name: Craig
    |           ^^^^^
farm.yaml:6:15: error: `password` is a mapping, and no clear text stands in a farm
  6 |     password: *******
    |               ^^^^^^^
hint: write {hash: …}, {file: PATH} or {env: NAME}
farm.yaml:7:13: error: `groups` takes a list, not a single value
  7 |     groups: sudo
    |             ^^^^
hint: write [\"sudo\"]
farm.yaml:8:17: error: `vlan` is a whole number from 1 to 4094, not \"5000\"
  8 | network: {vlan: 5000, bridge: br0, uplink: }
    |                 ^^^^
farm.yaml:8:36: error: `uplink` has no value
  8 | network: {vlan: 5000, bridge: br0, uplink: }
    |                                    ^^^^^^
hint: write one, or leave the key out
farm.yaml:10:9: error: unknown key \"imag\" in container \"web\"
  10 |   web: {imag: x}
     |         ^^^^
hint: did you mean \"image\"?
";
    assert_eq!(problems(text), expect);
}
