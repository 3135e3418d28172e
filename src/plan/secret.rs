//! Which of a farm's values may be secret, so that no plan shows them. Decides by name alone; what lies in a password or in
//! a file that only its owner may read is known elsewhere.

/// What stands in the place of such a value.
pub(crate) const HIDDEN: &str = "(not shown)";

/// Whether the value of LXD's configuration key `key` is where people put passwords and tokens: the environment of a
/// container's processes, and what cloud-init is told in it.
pub(crate) fn is_often_secret(key: &str) -> bool {
    ["environment.", "cloud-init.", "user."]
        .iter()
        .any(|start| key.starts_with(start))
}

/// `value`, unless it may be secret.
pub(crate) fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    if is_often_secret(key) {
        HIDDEN
    } else {
        value
    }
}
