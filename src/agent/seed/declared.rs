//! What the card's seed declares for cloud-init, and what of it is not there. It looks for the results themselves:
//! that cloud-init has marked a module as done proves nothing. Changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;

use palmfarm_protocol::paths::HOST;
use serde_json::Value;

use crate::program::query;
use crate::root::Root;

/// What cloud-init is told; `Null` on a card of an earlier palmfarm.
#[derive(Debug)]
pub(super) struct Declared(Value);

impl Declared {
    pub(super) fn read(root: &Root) -> Self {
        let text = root.read(HOST).unwrap_or_default();
        Self(serde_json::from_str(&text).unwrap_or_default())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// Every declared user, with the name.
    fn users(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.0.get("users").and_then(Value::as_array);
        let all = all.into_iter().flatten();
        all.filter_map(|user| Some((user.get("name")?.as_str()?, user)))
    }

    /// The names of the declared users.
    pub(super) fn names(&self) -> Vec<&str> {
        self.users().map(|(name, _)| name).collect()
    }

    /// What is declared and not there, one sentence each.
    pub(super) fn missing(&self, root: &Root) -> Vec<String> {
        let mut missing = Vec::new();
        for (name, user) in self.users() {
            self::user(root, name, user, &mut missing);
        }
        if let Some(zone) = self.text("timezone") {
            let is = fs::read_link(root.at("/etc/localtime")).is_ok_and(|link| link.ends_with(zone));
            if !is {
                missing.push(format!("the time zone is not {zone}"));
            }
        }
        if let Some(locale) = self.lacking_locale() {
            missing.push(format!("the locale {locale} was not generated"));
        }
        missing
    }

    /// The declared locale, if programs cannot use it.
    pub(super) fn lacking_locale(&self) -> Option<&str> {
        let locale = self.text("locale")?;
        let plain = |name: &str| name.to_ascii_lowercase().replace('-', "");
        // POSIX has these; `locale -a` lists every other one that programs can use.
        let built_in = ["c", "posix"].contains(&plain(locale).as_str());
        let has = || {
            query("locale", &["-a"])
                .lines()
                .any(|one| plain(one) == plain(locale))
        };
        (!built_in && !has()).then_some(locale)
    }
}

/// Look for one user: the account, its home, its groups and its keys.
fn user(root: &Root, name: &str, user: &Value, missing: &mut Vec<String>) {
    let Some((id, home)) = account(root, name) else {
        missing.push(format!("the user {name} was not made"));
        return;
    };
    if !fs::metadata(root.at(&home)).is_ok_and(|facts| facts.is_dir() && facts.uid() == id) {
        missing.push(format!("{home} is not a folder of {name}"));
    }
    let list = |key: &str| {
        let all = user.get(key).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str)
    };
    let groups = root.read("/etc/group").unwrap_or_default();
    for group in list("groups") {
        let is_in = |line: &str| {
            let mut fields = line.split(':');
            fields.next() == Some(group)
                && fields
                    .nth(2)
                    .is_some_and(|all| all.split(',').any(|one| one == name))
        };
        if !groups.lines().any(is_in) {
            missing.push(format!("{name} is not in the group {group}"));
        }
    }
    let keys = root
        .read(&format!("{home}/.ssh/authorized_keys"))
        .unwrap_or_default();
    let lost = list("ssh_authorized_keys").filter(|key| {
        // cloud-init may write other options and another comment: type and key are what counts.
        let words: Vec<&str> = key.split(' ').collect();
        !words.iter().any(|word| word.len() > 40 && keys.contains(word))
    });
    match lost.count() {
        0 => {}
        1 => missing.push(format!("a key of {name} is not in {home}/.ssh/authorized_keys")),
        count => missing.push(format!(
            "{count} keys of {name} are not in {home}/.ssh/authorized_keys"
        )),
    }
}

/// The number and the home of an account (passwd(5)).
pub(super) fn account(root: &Root, name: &str) -> Option<(u32, String)> {
    let accounts = root.read("/etc/passwd").ok()?;
    accounts
        .lines()
        .find_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
            [user, _, id, _, _, home, ..] if user == name => Some((id.parse().ok()?, home.to_owned())),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA nina@x";
    const SEED: &str = r#"
{"hostname": "palm", "timezone": "Europe/Paris", "locale": "xx_YY.UTF-8",
 "users": [{"name": "nina", "groups": ["sudo", "adm"], "ssh_authorized_keys": ["KEY"]}, {"name": "max"}]}
"#;

    #[test]
    fn what_is_not_there_is_named() {
        let seed = SEED.replace("KEY", KEY);
        let id = fs::metadata("/proc/self").unwrap().uid();
        let scratch = Scratch::new("declared", &[(HOST, seed.as_str())]);
        let root = &scratch.0;
        let declared = Declared::read(root);
        assert_eq!(declared.names(), ["nina", "max"]);
        let check = |expect: &[&str]| assert_eq!(declared.missing(root), expect);
        let (zone, locale) = (
            "the time zone is not Europe/Paris",
            "the locale xx_YY.UTF-8 was not generated",
        );
        check(&[
            "the user nina was not made",
            "the user max was not made",
            zone,
            locale,
        ]);
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nnina:x:{id}:5::/home/nina:/bin/bash\nmax:x:{id}:5::/home/max:\n"
        );
        root.write("/etc/passwd", passwd.as_bytes()).unwrap();
        root.write("/etc/group", b"sudo:x:27:maxnina\nadm:x:4:max,nina\n")
            .unwrap();
        fs::create_dir_all(root.at("/home/max")).unwrap();
        check(&[
            "/home/nina is not a folder of nina",
            "nina is not in the group sudo",
            "a key of nina is not in /home/nina/.ssh/authorized_keys",
            zone,
            locale,
        ]);
        root.write(
            "/home/nina/.ssh/authorized_keys",
            KEY.replace("nina@x", "").as_bytes(),
        )
        .unwrap();
        root.write("/etc/group", b"sudo:x:27:nina\nadm:x:4:max,nina\n")
            .unwrap();
        std::os::unix::fs::symlink("/usr/share/zoneinfo/Europe/Paris", root.at("/etc/localtime")).unwrap();
        check(&[locale]);
    }

    #[test]
    fn what_cannot_be_read_declares_nothing() {
        for text in [
            "",
            "#cloud-config\nusers: [{name: nina}]\n",
            "#cloud-config\n[1]\n",
        ] {
            let scratch = Scratch::new("declared-else", &[(HOST, text)]);
            assert_eq!(Declared::read(&scratch.0).missing(&scratch.0), [""; 0], "{text}");
        }
    }
}
