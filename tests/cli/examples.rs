//! The examples are farms that work: checked, planned, and doing what they are there to show.

use std::fs;
use std::path::Path;

use super::{has_agents, palmfarm, told};

/// A copy of the examples in `dir`, so that nothing is written beside the real ones.
fn copy_to(dir: &Path) -> Vec<String> {
    let names = copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")), dir);
    names
        .into_iter()
        .filter(|name| name.strip_suffix(".yaml").is_some())
        .collect()
}

/// Copy what is in `from` into `to`; its names.
fn copy(from: &Path, to: &Path) -> Vec<String> {
    fs::read_dir(from)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let copied = to.join(&name);
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(&copied).unwrap();
                copy(&entry.path(), &copied);
            } else {
                fs::copy(entry.path(), &copied).unwrap();
                on_mini(&copied);
            }
            name
        })
        .collect()
}

/// A farm on the base that needs no download.
fn on_mini(file: &Path) {
    if file.extension().is_some_and(|end| end == "yaml") {
        let text = fs::read_to_string(file).unwrap();
        fs::write(
            file,
            text.replace("\nbase: ubuntu-24.04-arm64\n", "\nbase: mini\n"),
        )
        .unwrap();
    }
}

#[test]
fn every_example_is_a_sound_farm() {
    let dir = tempfile::tempdir().unwrap();
    let farms = copy_to(dir.path());
    assert!(farms.len() >= 3, "{farms:?}");
    for farm in farms {
        if farm == "cluster.yaml" {
            let out = palmfarm(dir.path(), &["keys", "new", &farm]);
            assert_eq!(out.status.code(), Some(0), "{farm}: {}", told(&out));
        }
        let out = palmfarm(dir.path(), &["check", &farm]);
        assert_eq!(out.status.code(), Some(0), "{farm}: {}", told(&out));
        // The base is only this test's, and whoever takes the example puts a key of their own in.
        let said = String::from_utf8(out.stderr.clone()).unwrap();
        let warnings: Vec<&str> = said.lines().filter(|line| line.contains(": warning: ")).collect();
        let [base, key] = warnings.as_slice() else {
            panic!("{farm}: {}", told(&out));
        };
        assert!(base.contains("no Pi starts from `mini`"), "{said}");
        assert!(
            key.contains("\"craig\" has only the key of palmfarm's examples"),
            "{said}"
        );
        let out = palmfarm(dir.path(), &["check", &farm, "--json"]);
        let lines = String::from_utf8(out.stdout).unwrap();
        let ok: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        for card in ok["cards"].as_array().unwrap() {
            let plan = ["plan", &farm, "--card", card.as_str().unwrap(), "--prefix"];
            let zone = palmfarm(
                dir.path(),
                &[&plan[..], &["2001:db8::/64", "--format", "hosts"]].concat(),
            );
            assert!(!zone.stdout.is_empty(), "{farm}: {}", told(&zone));
        }
    }
}

#[test]
fn docker_may_run_in_both_containers() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    copy_to(dir.path());
    let out = palmfarm(dir.path(), &["plan", "docker.yaml", "--format", "json"]);
    let plan: serde_json::Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", told(&out)));
    let containers = plan["containers"].as_array().unwrap();
    let names: Vec<&str> = containers
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["docker1", "docker2"],
        "the one that publishes the image comes first"
    );
    for one in containers {
        assert_eq!(one["config"]["security.nesting"]["value"], "true", "{one}");
        assert_eq!(one["devices"]["eth0"]["keys"]["parent"], "br0", "{one}");
    }
}

#[test]
fn each_card_of_a_fleet_has_its_containers() {
    let dir = tempfile::tempdir().unwrap();
    copy_to(dir.path());
    let out = palmfarm(dir.path(), &["check", "fleet.yaml"]);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "ok: 2 cards with 1 to 4 containers each, on mini\n"
    );
    let listed = |card| {
        let plan = [
            "plan",
            "fleet.yaml",
            "--card",
            card,
            "--prefix",
            "2001:db8::/64",
            "--format",
            "zone",
        ];
        let out = palmfarm(dir.path(), &plan);
        let zone = String::from_utf8(out.stdout).unwrap();
        let records = zone.lines().filter(|line| !line.starts_with(';'));
        let names = records.filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed("palm1"), ["palm1", "web", "w2", "w3", "w4"]);
    assert_eq!(
        listed("palm2"),
        ["palm2", "palm2"],
        "what is behind NAT has no address"
    );
}
