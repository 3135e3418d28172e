//! The JSON Schema beside the decoder: every farm that any test here reads is held against both.

#![expect(clippy::panic, reason = "helpers of tests may fail as tests do")]

use std::sync::LazyLock;

use jsonschema::Validator;
use palmfarm::farm::{LoadedFarm, Refused, SCHEMA};
use serde_json::Value;

use super::{brief, completed, parse, said, HASH, KEY};

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::draft7::new(&schema()).unwrap());

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// The document in `text` as any other reader of YAML sees it; `None`: not at all.
fn document(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

/// What is read validates, and what has an unknown key does not.
#[track_caller]
pub(super) fn agrees(text: &str, result: &Result<LoadedFarm, Refused>) {
    let Some(document) = document(text) else {
        return;
    };
    if result.is_ok() {
        let errors: Vec<String> = VALIDATOR
            .iter_errors(&document)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}\n{text}");
    } else if brief(result).contains("error: unknown key ") {
        assert!(!VALIDATOR.is_valid(&document), "{text}");
    }
}

#[test]
fn the_schema_is_one() {
    assert!(jsonschema::draft7::meta::is_valid(&schema()));
}

#[test]
fn the_examples_validate() {
    let mut farms = vec![include_str!("example.yaml")
        .replace("ANY_KEY", KEY)
        .replace("ANY_HASH", HASH)];
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            farms.push(std::fs::read_to_string(path).unwrap());
        }
    }
    assert!(farms.len() > 1);
    for farm in farms {
        let document = document(&farm).unwrap();
        let errors: Vec<String> = VALIDATOR
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

/// The keys that the schema knows at `pointer`, in order.
fn keys(pointer: &str) -> Vec<String> {
    let schema = schema();
    let map = schema.pointer(pointer).and_then(Value::as_object);
    let mut keys: Vec<String> = map
        .unwrap_or_else(|| panic!("nothing at {pointer}"))
        .keys()
        .cloned()
        .collect();
    keys.sort();
    keys
}

/// The error about a farm with `lines`, one of whose keys is `unheard_of`, lists the keys; the schema has the same.
#[track_caller]
fn same_keys(lines: &str, pointer: &str) {
    let text = completed(lines).replace("ANY_KEY", KEY);
    let result = parse(
        "farm.yaml",
        text.as_bytes(),
        std::path::Path::new("/nonexistent"),
        &super::no_environment,
        None,
    );
    let (text, problems) = said(&result);
    let hint = text
        .lines(problems)
        .filter(|line| line.message.contains("unheard_of"))
        .find_map(|line| line.hint.map(str::to_owned));
    let hint = hint.unwrap_or_else(|| panic!("{lines}: {}", brief(&result)));
    let told = hint
        .strip_prefix("the keys here are ")
        .unwrap_or_else(|| panic!("{hint}"));
    let mut told: Vec<&str> = told.split(", ").collect();
    told.sort_unstable();
    assert_eq!(told, keys(pointer), "{lines}");
}

#[test]
fn both_know_the_same_keys() {
    let key = "unheard_of: 1";
    same_keys(key, "/properties");
    same_keys(
        &format!("users: [{{name: a, {key}}}]"),
        "/definitions/user/properties",
    );
    same_keys(
        &format!("users: [{{name: a, password: {{{key}}}}}]"),
        "/definitions/user/properties/password/properties",
    );
    same_keys(
        &format!("users: [{{name: a, ssh_keys: [{{{key}}}]}}]"),
        "/definitions/user/properties/ssh_keys/items/anyOf/1/properties",
    );
    same_keys(&format!("ssh: {{{key}}}"), "/properties/ssh/properties");
    same_keys(&format!("network: {{{key}}}"), "/definitions/network/properties");
    for family in ["ipv4", "ipv6"] {
        same_keys(
            &format!("network: {{{family}: {{{key}}}}}"),
            &format!("/definitions/network/properties/{family}/anyOf/1/properties"),
        );
    }
    same_keys(&format!("carry: {{{key}}}"), "/properties/carry/properties");
    same_keys(
        &format!("carry: {{lxd: [{{{key}}}]}}"),
        "/properties/carry/properties/lxd/items/anyOf/1/properties",
    );
    same_keys(&format!("boot: {{{key}}}"), "/properties/boot/properties");
    same_keys(&format!("lxd: {{{key}}}"), "/definitions/lxd/properties");
    same_keys(
        &format!("lxd: {{storage: {{{key}}}}}"),
        "/definitions/lxd/properties/storage/properties",
    );
    same_keys(
        &format!("lxd: {{nat: {{{key}}}}}"),
        "/definitions/lxd/properties/nat/anyOf/1/properties",
    );
    same_keys(
        &format!("lxd: {{profiles: {{a: {{{key}}}}}}}"),
        "/definitions/lxd/properties/profiles/additionalProperties/properties",
    );
    same_keys(
        &format!("images: {{a: {{file: a, {key}}}}}"),
        "/properties/images/additionalProperties/properties",
    );
    same_keys(
        &format!("containers: {{a: {{image: \"i:a\", {key}}}}}"),
        "/definitions/container/properties",
    );
    same_keys(
        &format!("containers: {{a: {{image: \"i:a\", run: [{{{key}}}]}}}}"),
        "/definitions/container/properties/run/items/anyOf/1/properties",
    );
    same_keys(&format!("dns: {{zone: a, {key}}}"), "/properties/dns/properties");
    same_keys(
        &format!("cards: {{a: {{{key}}}}}"),
        "/properties/cards/additionalProperties/properties",
    );
}
