//! Modules of the kernel that modprobe.d(5) keeps from being loaded.

use super::{SurveyError, View};
use crate::base::BlockedModule;
use crate::edit::tree::Volume;

/// Where modprobe reads. If `/usr` is merged, `/lib` is `/usr/lib`.
const MODPROBE: [&str; 4] = [
    "etc/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
];

pub(super) fn blocked(volumes: &View<'_>) -> Result<Vec<BlockedModule>, SurveyError> {
    let mut found = Vec::new();
    for dir in MODPROBE {
        if dir.starts_with("lib/") && volumes.has("usr/lib/modprobe.d")? {
            continue;
        }
        let names = volumes.names(dir)?;
        for name in names.iter().filter(|name| name.strip_suffix(".conf").is_some()) {
            let Some(file) = volumes.text(Volume::Root, &format!("{dir}/{name}"))? else {
                continue;
            };
            for (line, module) in in_text(&file.text) {
                let path = file.path.clone();
                found.push(BlockedModule { module, path, line });
            }
        }
    }
    Ok(found)
}

/// The modules that a file keeps from being loaded, each with the number of its line.
fn in_text(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut first, mut whole) = (1, String::new());
    for (line, text) in (1..).zip(text.lines()) {
        if whole.is_empty() {
            first = line;
        }
        if let Some(begun) = text.strip_suffix('\\') {
            whole.push_str(begun);
            whole.push(' ');
        } else {
            whole.push_str(text);
            found.extend(module(&whole).map(|module| (first, module)));
            whole.clear();
        }
    }
    found.extend(module(&whole).map(|module| (first, module)));
    found
}

/// The module that a line keeps from being loaded. A blacklist keeps it from being found by its aliases, and it is by an
/// alias that the kernel asks for a type of interface, a filesystem or a protocol.
fn module(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (key, module) = (words.next()?, words.next()?.replace('-', "_"));
    let rest: Vec<&str> = words.collect();
    let does_nothing = |command: &&str| {
        let name = command.rsplit('/').next();
        matches!(name, Some("true" | "false" | ":" | "null"))
    };
    let is_blocked = match key {
        "blacklist" => true,
        "install" => rest.first().is_some_and(does_nothing),
        // What the module calls its own switch (Documentation/networking/ipv6.rst).
        "options" if module == "ipv6" => rest
            .iter()
            .any(|option| matches!(*option, "disable=1" | "disable_ipv6=1")),
        _ => false,
    };
    is_blocked.then_some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_modules_from_being_loaded() {
        let check = |text: &str, expect: &[(usize, &str)]| {
            let found = in_text(text);
            let found: Vec<_> = found
                .iter()
                .map(|(line, module)| (*line, module.as_str()))
                .collect();
            assert_eq!(found, expect, "{text}");
        };
        check("# no\nblacklist  bridge # x\n", &[(2, "bridge")]);
        check(
            "install veth /bin/true\ninstall br-netfilter /usr/bin/false\n",
            &[(1, "veth"), (2, "br_netfilter")],
        );
        check("options ipv6 autoconf=0 disable=1\n", &[(1, "ipv6")]);
        check(
            "\ninstall \\\n squashfs \\\n /bin/true\nblacklist llc",
            &[(2, "squashfs"), (5, "llc")],
        );
        check(
            "#blacklist bridge\nalias bridge off\noptions bridge x=1\ninstall veth /sbin/modprobe -i veth\nblacklist\n",
            &[],
        );
    }
}
