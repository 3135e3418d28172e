//! Settings of an object whose owner may change them too. Three states are compared: what was declared when the agent
//! last changed the object, what is declared now, and what the object has. It only computes.

use serde_json::{json, Map, Value};

/// What is to become of an object's settings.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Merge {
    /// What changes, by key; null removes a key.
    pub(super) changes: Map<String, Value>,
    /// What the owner has changed and the agent leaves alone. Values may be secret, so there are only keys.
    pub(super) left: Vec<String>,
}

/// Compare the keys of three objects. A key that was never declared is the owner's, and is not looked at.
pub(super) fn keys(then: &Value, now: &Value, found: &Value) -> Merge {
    let mut merge = Merge::default();
    let declared = [then, now].into_iter().filter_map(Value::as_object).flatten();
    for (key, _) in declared {
        let (then, now, found) = (then.get(key), now.get(key), found.get(key));
        if same(now, found) {
            continue;
        }
        if !same(now, then) && same(found, then) {
            merge
                .changes
                .insert(key.clone(), now.cloned().unwrap_or_default());
        } else if !merge.left.contains(key) {
            merge.left.push(key.clone());
        }
    }
    merge
}

/// Compare three lists of profiles. What the owner added or took away stays so.
pub(super) fn profiles(then: &Value, now: &Value, found: &Value) -> Merge {
    let mut merge = Merge::default();
    if now == found {
        return merge;
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (before, declared, there) = (list(then), list(now), list(found));
    let mut whole = there.clone();
    if then != now {
        let wanted = |one: &Value| there.contains(one) || !before.contains(one);
        let added = |one: &Value| !before.contains(one) && !declared.contains(one);
        whole = declared.iter().filter(|one| wanted(one)).cloned().collect();
        whole.extend(there.iter().filter(|one| added(one)).cloned());
        if whole != there {
            merge.changes.insert("profiles".into(), json!(whole));
        }
    }
    if whole != declared {
        merge.left.push("profiles".into());
    }
    merge
}

/// Put `changes` into the object under `key` of `body`.
pub(super) fn apply(body: &mut Map<String, Value>, key: &str, changes: Map<String, Value>) {
    let Some(object) = body.get_mut(key).and_then(Value::as_object_mut) else {
        return;
    };
    for (key, value) in changes {
        if value.is_null() {
            object.remove(&key);
        } else {
            object.insert(key, value);
        }
    }
}

/// The daemon writes some values of the server's settings as numbers or booleans that it takes as text.
fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    one.map(text) == other.map(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_of_the_table_of_settings() {
        let check = |then: Value, now: Value, found: Value, changes: Value, left: &[&str]| {
            let merge = keys(&then, &now, &found);
            assert_eq!(json!(merge.changes), changes, "{then} {now} {found}");
            assert_eq!(merge.left, left, "{then} {now} {found}");
        };
        let none = || json!({});
        let a = |value: &str| json!({"a": value});
        // As declared, and nothing has changed.
        check(a("1"), a("1"), a("1"), none(), &[]);
        // Only the owner changed it.
        check(a("1"), a("1"), a("2"), none(), &["a"]);
        check(a("1"), a("1"), none(), none(), &["a"]);
        // Only the declaration changed.
        check(a("1"), a("2"), a("1"), a("2"), &[]);
        check(none(), a("2"), none(), a("2"), &[]);
        check(a("1"), none(), a("1"), json!({"a": null}), &[]);
        // Both changed, to the same and to different values.
        check(a("1"), a("2"), a("2"), none(), &[]);
        check(a("1"), none(), none(), none(), &[]);
        check(a("1"), a("2"), a("3"), none(), &["a"]);
        check(none(), a("2"), a("3"), none(), &["a"]);
        check(a("1"), none(), a("3"), none(), &["a"]);
        // It was never declared.
        check(none(), none(), a("3"), none(), &[]);
        check(none(), a("true"), json!({"a": true}), none(), &[]);
    }

    #[test]
    fn profiles_of_the_owner_stay() {
        let check = |then: &[&str], now: &[&str], found: &[&str], expect: &[&str], left: bool| {
            let merge = profiles(&json!(then), &json!(now), &json!(found));
            let whole = merge.changes.get("profiles").cloned();
            assert_eq!(
                whole.unwrap_or(json!(found)),
                json!(expect),
                "{then:?} {now:?} {found:?}"
            );
            assert_eq!(!merge.left.is_empty(), left, "{then:?} {now:?} {found:?}");
        };
        check(&["a", "b"], &["a", "b"], &["a", "b"], &["a", "b"], false);
        check(&["a", "b"], &["a", "b"], &["m", "a"], &["m", "a"], true);
        check(&["a"], &["a", "b"], &["a"], &["a", "b"], false);
        check(&["a", "b"], &["a"], &["a", "b"], &["a"], false);
        check(&["a"], &["a", "b"], &["a", "m"], &["a", "b", "m"], true);
        check(&["a", "b"], &["a", "b", "c"], &["a"], &["a", "c"], true);
        check(&["a", "b"], &["b"], &["a", "b", "m"], &["b", "m"], true);
    }
}
