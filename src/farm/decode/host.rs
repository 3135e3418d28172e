//! Reads what belongs to the host itself: base, users, SSH, files.

use std::collections::BTreeMap;

use super::fields::{self, choice, line, named, number, parsed, section, truth};
use crate::base::locate::BaseRef;
use crate::farm::accounts::Site;
use crate::farm::declared::{self, Declared};
use crate::farm::node::{Entry, Node, Value};
use crate::farm::problem::{Problem, Problems};
use crate::farm::suggest::quoted;
use crate::farm::{credentials, timezones};
use crate::farm::{FileSource, KeySource, Password, Ssh, SshKeys, Sudo, User};
use palmfarm_protocol::names;

/// A host name. People write the name with its domain.
pub(super) fn name(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let text = line(node, key, p)?;
    if let Err(why) = names::hostname(&text) {
        let hint = text.split_once('.').and_then(|(host, domain)| {
            let is_name = names::hostname(host).is_ok() && names::domain(domain).is_ok();
            is_name.then(|| format!("write {host}; the domain goes to `dns: {{zone: {domain}}}`"))
        });
        p.error(node.span, format!("{} is not a host name: {why}", quoted(&text)))
            .maybe_hint(hint);
    }
    Some(text)
}

pub(super) fn base(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let text = line(node, key, p)?;
    let bad = |why: String| Problem::error(node.span, format!("{} is not a base: {why}", quoted(&text)));
    match BaseRef::new(&text) {
        BaseRef::Url(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
            p.push(bad("its URL begins with neither https:// nor http://".into()));
        }
        BaseRef::Url(url) if names_a_user(url) => {
            let message =
                "a user name or password in the URL of a base would be shown in plans and manifests";
            p.error(node.span, message)
                .hint("download it yourself, and name the file");
        }
        BaseRef::Name(name) => {
            if let Err(why) = names::object(name) {
                let hint = "a base is a name, a path that has a slash or ends as an image does, or a URL";
                p.push(bad(why).hint(hint));
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

/// A SHA-256 in lower case.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!(
            "a SHA-256 has 64 hexadecimal digits, and {odd:?} is not one"
        ));
    }
    if text.len() != 64 {
        let found = text.len();
        return Err(format!(
            "a SHA-256 has 64 hexadecimal digits, and this has {found}"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

pub(super) fn timezone(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let text = line(node, key, p)?;
    if !timezones::is_known(&text) {
        let hint = match timezones::closest(&text) {
            Some(close) => format!("did you mean {close:?}?"),
            None => {
                "time zones have names such as Europe/Vienna; `timedatectl list-timezones` lists them".into()
            }
        };
        p.error(node.span, format!("{} is not a time zone", quoted(&text)))
            .hint(hint);
    }
    Some(text)
}

pub(super) fn users(entry: &Entry, p: &mut Problems) -> Vec<User> {
    fields::mappings(entry, "name", &named("a login name", names::user), p)
        .iter()
        .map(|item| user(item, p))
        .collect()
}

/// The numbers that people's accounts have (Debian Policy, section 9.2.2; `UID_MIN` of login.defs).
const UIDS: (u32, u32) = (1000, 59_999);

/// A user whose name is wrong has none, so that the others keep their places in the list.
fn user(node: &Node, p: &mut Problems) -> User {
    let kinds = [("password", Sudo::Password), ("nopasswd", Sudo::Nopasswd)];
    fields::mapping(node, node.span, "a user", p, |fields| {
        fields.require("name", "write `name: nina`, the name to log in with");
        User {
            name: fields
                .value("name", named("a login name", names::user))
                .unwrap_or_default(),
            groups: fields.words("groups", named("a group name", names::user)),
            ssh_keys: fields.list_in_place("ssh_keys", ssh_keys),
            password: fields.read("password", password).flatten(),
            sudo: fields.value("sudo", choice(&kinds)),
            shell: fields.value("shell", named("a login shell", names::shell)),
            gecos: fields.value("gecos", named("a comment for /etc/passwd", names::gecos)),
            uid: fields.value("uid", number(UIDS.0, UIDS.1)),
        }
    })
}

/// A line of `authorized_keys`, or where such lines are.
fn ssh_keys(node: &Node, key: &str, p: &mut Problems) -> Option<SshKeys> {
    if matches!(node.value, Value::Map(_)) {
        return key_source(node, p).map(|source| SshKeys {
            source,
            lines: Vec::new(),
        });
    }
    let source = KeySource::Farm;
    let lines = vec![ssh_key(node, key, p)?];
    Some(SshKeys { source, lines })
}

fn key_source(node: &Node, p: &mut Problems) -> Option<KeySource> {
    fields::mapping(node, node.span, "an SSH key", p, |fields| {
        let file = fields.take("file");
        let sites = Site::ALL.map(|site| (site, fields.take(site.key())));
        let mut accounts = sites.into_iter().filter_map(|(site, entry)| Some((site, entry?)));
        match (file, accounts.next(), accounts.next()) {
            (Some(entry), None, _) => line(&entry.value, "file", fields.p).map(KeySource::File),
            (None, Some((site, entry)), None) => {
                let account = parsed(|text| site.account(text))(&entry.value, site.key(), fields.p);
                account.map(KeySource::Account)
            }
            // Its unknown keys are reported.
            (None, None, _) if !node.entries().is_empty() => None,
            _ => {
                let hint = "write its line, or one of {file: PATH}, {github: NAME} and {launchpad: NAME}";
                fields
                    .p
                    .error(node.span, "an SSH key comes from one place")
                    .hint(hint);
                None
            }
        }
    })
}

fn ssh_key(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let text = fields::scalar(node, key, p)?.text.trim_end();
    let Err(why) = credentials::ssh_key(text) else {
        return Some(text.into());
    };
    let problem = Problem::error(node.span, format!("this is not a public SSH key: {why}"));
    p.push(problem.maybe_hint(meant_by(text)));
    None
}

/// What to write in place of a word that is not a key: ssh-import-id(1) writes `gh:` and `lp:` before an account.
fn meant_by(text: &str) -> Option<String> {
    let text = text.trim();
    if text.contains(char::is_whitespace) {
        return None;
    }
    let account = match text.split_once(':') {
        Some(("gh" | "github", name)) => Some((Site::Github, name)),
        Some(("lp" | "launchpad", name)) => Some((Site::Launchpad, name)),
        _ => None,
    };
    let account = account.filter(|(site, name)| site.account(name).is_ok());
    Some(match account {
        Some((site, name)) => format!("write {{{}: {name}}}", site.key()),
        None if text.contains(['/', '.']) && text.len() < 60 => {
            format!("if it is a file, write {{file: {text:?}}}")
        }
        None => "write the whole line of the .pub file here, or {file: PATH}".into(),
    })
}

fn password(entry: &Entry, p: &mut Problems) -> Option<Password> {
    if entry.value.scalar().is_some_and(|scalar| !scalar.is_null()) {
        p.error(
            entry.value.span,
            "`password` is a mapping, since a farm must not hold clear text",
        )
        .hint("write {hash: …}, {file: PATH} or {env: NAME}");
        return None;
    }
    section(entry, "`password`", p, |fields| {
        let hash = fields.take("hash");
        let file = fields.take("file");
        let env = fields.take("env");
        match (hash, file, env) {
            (Some(entry), None, None) => self::hash(&entry.value, "hash", fields.p).map(Password::Hash),
            (None, Some(entry), None) => line(&entry.value, "file", fields.p).map(Password::File),
            (None, None, Some(entry)) => {
                let name = named("an environment variable", variable)(&entry.value, "env", fields.p);
                name.filter(|name| variable(name).is_ok()).map(Password::Env)
            }
            (None, None, None) if fields.broken || fields.has_unknown() => None,
            _ => {
                let problem = Problem::error(entry.key_span, "a password comes from one place");
                let hint = "write one of {hash: …}, {file: PATH} and {env: NAME}";
                fields.p.push(problem.hint(hint));
                None
            }
        }
    })
}

fn hash(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let scalar = fields::scalar(node, key, p)?;
    let Err(why) = credentials::crypt_hash(&scalar.text) else {
        return Some(scalar.text.clone());
    };
    p.error(node.span, format!("this is not a hash of a password: {why}")).hint(
        "`openssl passwd -6` and `mkpasswd -m sha-512` make one; with {file: PATH} or {env: NAME} palmfarm makes it",
    );
    None
}

/// A portable name of an environment variable (POSIX, "Environment Variable Definition").
fn variable(text: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(fine) {
        return Err("it may have letters, digits and underscores, and no digit in front".into());
    }
    Ok(())
}

pub(super) fn ssh(entry: &Entry, p: &mut Problems) -> Ssh {
    section(entry, "`ssh`", p, |fields| Ssh {
        password: fields.value("password", truth).unwrap_or_default(),
        host_keys: fields.value("host_keys", line),
    })
}

/// Paths on the card or in a container to files beside the farm file: a path, or the long form of a file.
pub(super) fn files(entry: &Entry, p: &mut Problems) -> BTreeMap<String, FileSource> {
    let mut files = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let path = fields::named_key(entry, "an absolute path", names::absolute_path, p);
        if let Some(source) = file(entry, &path, p) {
            files.insert(path, source);
        }
    }
    files
}

fn file(entry: &Entry, path: &str, p: &mut Problems) -> Option<FileSource> {
    if !matches!(entry.value.value, Value::Map(_)) {
        let declared = Declared::default();
        return line(&entry.value, path, p).map(|file| FileSource { file, declared });
    }
    let source = section(entry, format!("the file {}", quoted(path)), p, |fields| {
        fields.require("file", "write `file: PATH`, a file beside the farm");
        FileSource {
            file: fields.value("file", line).unwrap_or_default(),
            declared: Declared {
                mode: fields.value("mode", parsed(declared::mode)),
                owner: fields.value("owner", parsed(declared::owner)),
                secret: fields.value("secret", truth).unwrap_or_default(),
            },
        }
    });
    if let Some(why) = source.declared.contradiction() {
        p.error(entry.key_span, why)
            .hint("leave `mode` out: a secret is 0600");
    }
    Some(source)
}
