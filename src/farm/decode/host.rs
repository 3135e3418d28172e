//! What is on the host itself: base, users, SSH, boot, packages, files.

use std::collections::BTreeMap;

use super::fields::{self, Fields};
use crate::base::locate::BaseRef;
use crate::farm::node::{Entry, Node};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::{did_you_mean, quoted};
use crate::farm::{credentials, timezones};
use crate::farm::{Password, Ssh, Sudo, User};
use palmfarm_protocol::names;

pub(super) fn base(node: &Node, p: &mut Problems) -> Option<String> {
    let text = fields::line(node, "base", p)?;
    let bad = |why: String| Problem::error(node.span, format!("{} is no base: {why}", quoted(&text)));
    match BaseRef::new(&text) {
        BaseRef::Url(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
            p.push(bad("http and https are the schemes of URLs".into()));
        }
        BaseRef::Url(url) if names_a_user(url) => {
            let message = "a user name or password in the URL of a base would stand in plans and manifests";
            let problem = Problem::error(node.span, message);
            p.push(problem.hint("download it yourself, and name the file"));
        }
        BaseRef::Name(name) => {
            if let Err(why) = names::object(name) {
                p.push(
                    bad(why)
                        .hint("a base is a name, a path with a slash in it or an image's ending, or a URL"),
                );
            }
        }
        BaseRef::Url(_) | BaseRef::Path(_) => {}
    }
    Some(text)
}

/// Whether there is user information in the authority of `url` (RFC 3986, section 3.2.1).
fn names_a_user(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.contains('@')
}

pub(super) fn sha256(node: &Node, p: &mut Problems) -> Option<String> {
    fields::parsed(node, "sha256", p, |text| {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text.to_ascii_lowercase());
        }
        let found = text.chars().count();
        Err(match text.chars().find(|c| !c.is_ascii_hexdigit()) {
            Some(odd) => format!("a SHA-256 has no {odd:?} among its 64 hexadecimal digits"),
            None => format!("a SHA-256 has 64 hexadecimal digits, and here are {found}"),
        })
    })
}

pub(super) fn timezone(node: &Node, p: &mut Problems) -> Option<String> {
    let text = fields::line(node, "timezone", p)?;
    if !timezones::is_known(&text) {
        let problem = Problem::error(node.span, format!("{} is no time zone", quoted(&text)));
        p.push(match did_you_mean(&text, timezones::all()) {
            Some(hint) => problem.hint(hint),
            None => problem.hint("zones are named as Europe/Vienna; `timedatectl list-timezones` lists them"),
        });
    }
    Some(text)
}

pub(super) fn users(entry: &Entry, p: &mut Problems) -> Vec<User> {
    fields::mappings(entry, "name", p)
        .iter()
        .map(|item| user(item, p))
        .collect()
}

/// A user whose name is wrong has none, so that the others keep their places in the list.
fn user(node: &Node, p: &mut Problems) -> User {
    let mut fields = Fields::open(node, node.span, "a user", p);
    let name = fields
        .need("name")
        .and_then(|entry| fields::named(&entry.value, "name", "login name", names::user, p));
    let groups = fields.take("groups").map(|entry| {
        fields::items(entry, p)
            .iter()
            .filter_map(|item| fields::named(item, "groups", "name of a group", names::user, p))
            .collect()
    });
    let mut ssh_keys = Vec::new();
    if let Some(entry) = fields.take("ssh_keys") {
        for item in fields::items(entry, p) {
            ssh_keys.extend(ssh_key(item, p));
        }
    }
    let password = fields.take("password").and_then(|entry| password(entry, p));
    let kinds = [("password", Sudo::Password), ("nopasswd", Sudo::Nopasswd)];
    let sudo = fields
        .take("sudo")
        .and_then(|entry| fields::choice(&entry.value, "sudo", &kinds, p));
    fields.close(p);
    User {
        name: name.unwrap_or_default(),
        groups: groups.unwrap_or_default(),
        ssh_keys,
        password,
        sudo,
    }
}

fn ssh_key(node: &Node, p: &mut Problems) -> Option<String> {
    let scalar = fields::scalar(node, "ssh_keys", p)?;
    match credentials::ssh_key(scalar.text.trim_end()) {
        Ok(()) => Some(scalar.text.trim_end().into()),
        Err(why) => {
            let problem = Problem::error(node.span, format!("this is no public SSH key: {why}"));
            let is_file = !scalar.text.trim().contains(char::is_whitespace);
            p.push(if is_file {
                problem.hint("write the whole line that stands in the .pub file")
            } else {
                problem
            });
            None
        }
    }
}

fn password(entry: &Entry, p: &mut Problems) -> Option<Password> {
    if entry.value.scalar().is_some_and(|scalar| !scalar.is_null()) {
        let problem = Problem::error(
            entry.value.span,
            "`password` is a mapping, and no clear text stands in a farm",
        );
        p.push(problem.hint("write {hash: …}, {file: PATH} or {env: NAME}"));
        return None;
    }
    let mut fields = Fields::open(&entry.value, entry.key_span, "`password`", p);
    let hash = fields.take("hash");
    let file = fields.take("file");
    let env = fields.take("env");
    let broken = fields.broken();
    fields.close(p);
    match (hash, file, env) {
        (Some(hash), None, None) => self::hash(&hash.value, p).map(Password::Hash),
        (None, Some(file), None) => fields::line(&file.value, "file", p).map(Password::File),
        (None, None, Some(env)) => {
            let name = fields::named(&env.value, "env", "environment variable", variable, p);
            name.filter(|name| variable(name).is_ok()).map(Password::Env)
        }
        (None, None, None) if broken => None,
        _ => {
            let problem = Problem::error(entry.key_span, "a password comes from one place");
            p.push(problem.hint("write one of {hash: …}, {file: PATH} and {env: NAME}"));
            None
        }
    }
}

fn hash(node: &Node, p: &mut Problems) -> Option<String> {
    let scalar = fields::scalar(node, "hash", p)?;
    match credentials::crypt_hash(&scalar.text) {
        Ok(()) => Some(scalar.text.clone()),
        Err(why) => {
            let problem = Problem::error(node.span, format!("this is no hash of a password: {why}"));
            p.push(problem.hint("`openssl passwd -6` and `mkpasswd -m sha-512` make one; {file: PATH} and {env: NAME} let palmfarm make it"));
            None
        }
    }
}

/// A portable name of an environment variable (POSIX, "Environment Variable Definition").
fn variable(text: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(fine) {
        return Err("letters, digits and underscores are, no digit in front".into());
    }
    Ok(())
}

pub(super) fn ssh(entry: &Entry, p: &mut Problems) -> Ssh {
    let mut fields = Fields::open(&entry.value, entry.key_span, "`ssh`", p);
    let password = fields
        .take("password")
        .and_then(|entry| fields::truth(&entry.value, "password", p));
    fields.close(p);
    Ssh {
        password: password.unwrap_or_default(),
    }
}

pub(super) fn packages(entry: &Entry, p: &mut Problems) -> Vec<String> {
    fields::items(entry, p)
        .iter()
        .map(|item| {
            fields::named(item, "packages", "name of a package", names::package, p).unwrap_or_default()
        })
        .collect()
}

/// Paths on the card to paths beside the farm file.
pub(super) fn files(entry: &Entry, p: &mut Problems) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let path = fields::named_key(entry, "absolute path", names::absolute_path, p);
        if let Some(source) = fields::line(&entry.value, &entry.key, p) {
            files.insert(path, source);
        }
    }
    files
}

/// A list of lines of text; one that is none is empty, so that the others keep their places.
pub(super) fn lines(entry: &Entry, p: &mut Problems) -> Vec<String> {
    fields::items(entry, p)
        .iter()
        .map(|item| fields::line(item, &entry.key, p).unwrap_or_default())
        .collect()
}
