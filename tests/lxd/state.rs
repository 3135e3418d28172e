//! The whole state of a daemon as text in which what must be equal is equal: times, chosen names and identifiers that
//! the daemon draws by lot are left out, everything that an unfinished run could leave behind is in.

use serde_json::{json, Value};

use crate::lab::Lab;

/// The state of the lab's daemon.
pub(crate) fn state(lab: &Lab) -> String {
    // The pool's file lies in the lab's own directory.
    let mut text = lab
        .pi
        .dump()
        .replace(&*lab.card().parent().unwrap().to_string_lossy(), "LAB");
    for instance in list(lab, "/1.0/instances?recursion=1") {
        let name = instance["name"].as_str().unwrap();
        let kept: serde_json::Map<String, Value> = instance["config"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| !key.starts_with("volatile.") || *key == "volatile.eth0.hwaddr")
            .filter(|(key, _)| *key != "image.palmfarm.nonce")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let snapshots = list(lab, &format!("/1.0/instances/{name}/snapshots"));
        let logs = list(lab, &format!("/1.0/instances/{name}/logs"));
        let logs: Vec<&Value> = logs
            .iter()
            .filter(|log| log.as_str().unwrap().contains("/exec_"))
            .collect();
        text += &shown(&json!({
            "name": name,
            "status": instance["status"],
            "profiles": instance["profiles"],
            "devices": instance["devices"],
            "config": kept,
            "snapshots": snapshots,
            "records of what ran": logs,
        }));
    }
    // In the order of their fingerprints, in which there is chance, too.
    let mut images = list(lab, "/1.0/images?recursion=1");
    for image in &mut images {
        image["properties"]
            .as_object_mut()
            .unwrap()
            .remove("palmfarm.nonce");
    }
    let shown_image =
        |image: &Value| shown(&json!({"aliases": image["aliases"], "properties": image["properties"]}));
    let mut images: Vec<String> = images.iter().map(shown_image).collect();
    images.sort();
    text += &images.concat();
    text += &shown(&json!({"aliases": list(lab, "/1.0/images/aliases")}));
    let mut volumes: Vec<String> = list(lab, "/1.0/storage-pools/default/volumes?recursion=1")
        .iter()
        .map(|volume| {
            let kind = volume["type"].as_str().unwrap();
            // The volumes of images have their fingerprints as names, and packing one has its time in it.
            let name = if kind == "image" {
                "an image"
            } else {
                volume["name"].as_str().unwrap()
            };
            format!("volume of {kind}: {name}\n")
        })
        .collect();
    volumes.sort();
    text + &volumes.concat()
}

/// Both states are equal, or a panic with the lines that only one of them has.
#[track_caller]
pub(crate) fn same(got: &str, expect: &str, case: &str) {
    if got != expect {
        let only = |one: &str, other: &str| -> Vec<String> {
            one.lines()
                .filter(|line| !other.lines().any(|other| other == *line))
                .map(str::to_owned)
                .collect()
        };
        panic!(
            "{case}\nonly got {:#?}\nonly expected {:#?}",
            only(got, expect),
            only(expect, got)
        );
    }
}

fn list(lab: &Lab, path: &str) -> Vec<Value> {
    lab.pi.query(path).as_array().cloned().unwrap_or_default()
}

fn shown(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}
