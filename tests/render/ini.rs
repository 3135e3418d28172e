//! A reader of systemd's files (systemd.syntax(7)), strict where systemd is forgiving: what it would skip with a
//! warning is an error here, since everything that is read was written by palmfarm.

/// One assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<'t> {
    /// The section it is in.
    pub(super) section: &'t str,
    /// The key.
    pub(super) key: &'t str,
    /// The value.
    pub(super) value: &'t str,
}

/// Sections of each kind of file, by how its name ends.
const SECTIONS: [(&str, &[&str]); 4] = [
    (
        ".network",
        &["Match", "Link", "Network", "DHCP", "DHCPv4", "IPv6AcceptRA"],
    ),
    (".netdev", &["Match", "NetDev", "Bridge", "VLAN"]),
    (".service", &["Unit", "Service", "Install"]),
    (".conf", &["Unit", "Service", "Resolve"]),
];

/// The assignments of `text`, a file whose name ends as `name` does.
///
/// # Errors
/// The line and what is wrong with it.
pub(super) fn parse<'t>(name: &str, text: &'t str) -> Result<Vec<Entry<'t>>, String> {
    let sections = SECTIONS
        .iter()
        .find(|(end, _)| name.ends_with(end))
        .map(|(_, sections)| *sections)
        .ok_or_else(|| format!("no kind of unit ends as {name} does"))?;
    let mut section = None;
    let mut entries = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |why: &str| Err(format!("line {}: {line:?} {why}", at.saturating_add(1)));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.ends_with('\\') {
            return wrong("goes on in the next line");
        }
        if line.trim() != line || line.chars().any(char::is_control) {
            return wrong("holds white space at an end, or a control character");
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            match sections.iter().find(|known| **known == name) {
                Some(known) => section = Some(*known),
                None => return wrong("is no section of such a file"),
            }
            continue;
        }
        let (Some(section), Some((key, value))) = (section, line.split_once('=')) else {
            return wrong("is no assignment in a section");
        };
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return wrong("has a key that is no word");
        }
        entries.push(Entry { section, key, value });
    }
    if entries.is_empty() {
        return Err("it assigns nothing".into());
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_skip_is_an_error() {
        let check = |text: &str, fine: bool| assert_eq!(parse("a.network", text).is_ok(), fine, "{text:?}");
        check("# a\n[Match]\nName=br0\n\n[Network]\nDHCP=yes\n", true);
        check("[Match]\nName=\n", true);
        check("", false);
        check("[Match]\n", false);
        check("Name=br0\n", false);
        check("[Matc]\nName=br0\n", false);
        check("[Match]\nName\n", false);
        check("[Match]\nName=br0\\\nx=y\n", false);
        check("[Match]\nName=br0 \n", false);
        check("[Match]\n=br0\n", false);
        check("[Bridge]\nSTP=no\n", false);
        assert!(parse("a.txt", "[Match]\nName=a\n").is_err());
    }
}
