//! SSH keys of accounts: the tool fetches them from github.com and launchpad.net, which here are a server on this computer
//! behind a proxy, and pins them.

use std::fs;
use std::io::{copy, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::command::{palmfarm, tls_server, told};

/// Public keys whose private halves were thrown away.
const KEYS: &str = include_str!("../../src/farm/testdata/ssh_keys.txt");

/// Type and base64 of the key with that number.
fn key(number: usize) -> String {
    let line = KEYS.lines().nth(number).unwrap();
    line.rsplit_once(' ').unwrap().0.to_owned()
}

/// The sites as far as a proxy leads to them.
struct Sites {
    dir: tempfile::TempDir,
    server: Child,
    proxy: String,
    /// What the proxy was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Sites {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (server, port) = tls_server(dir.path(), "DNS:github.com,DNS:launchpad.net")?;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming() {
                let log = Arc::clone(&log);
                thread::spawn(move || tunnel(&client.unwrap(), port, &log));
            }
        });
        Some(Self {
            dir,
            server,
            proxy,
            asked,
        })
    }

    /// The answer for `path` of either site.
    fn put(&self, path: &str, status: &str, headers: &str, body: &str) {
        let file = self.dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
        fs::write(file, format!("{head}{body}")).unwrap();
    }

    fn run(&self, dir: &Path, args: &[&str]) -> Output {
        let mut command = palmfarm(dir);
        command
            .env("HTTPS_PROXY", &self.proxy)
            .env("SSL_CERT_FILE", self.dir.path().join("cert.pem"));
        command.args(args).output().unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// Answer CONNECT (RFC 9110, section 9.3.6) with a connection to `port`, whatever host is asked for.
fn tunnel(client: &TcpStream, port: u16, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    log.lock()
        .unwrap()
        .push(first.split(' ').nth(1).unwrap_or_default().to_owned());
    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    (&mut &*client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = thread::spawn(move || {
        drop(copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    });
    drop(copy(&mut &server, &mut &*client));
    drop(client.shutdown(Shutdown::Both));
    up.join().unwrap();
}

/// A farm whose user has `keys`.
fn farm(dir: &Path, keys: &str) {
    let text = format!("farm: 1\nbase: mini\nhostname: palm\nusers: [{{name: nina, ssh_keys: [{keys}]}}]\n");
    fs::write(dir.join("farm.yaml"), text).unwrap();
}

#[test]
fn keys_of_accounts_are_pinned_until_they_are_asked_for_again() {
    let Some(sites) = Sites::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // As GitHub and Launchpad write them: without comments, with those of their owner.
    sites.put("nina.keys", "200 OK", "", &format!("{}\n{}\n", key(0), key(2)));
    let launchpad = format!("{} nina@laptop\r\n\r\n{} \"x\"\r\n", key(1), key(0));
    sites.put("~nina/+sshkeys", "200 OK", "", &launchpad);
    farm(dir, "{github: nina}, {launchpad: nina}");

    let out = sites.run(dir, &["check"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert!(
        told(&out).contains("the keys of github:nina are not in palmfarm.lock"),
        "{}",
        told(&out)
    );
    assert_eq!(sites.asked(), 0, "check never fetches");

    let out = sites.run(dir, &["lock"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert!(
        told(&out).contains("+ github:nina ssh-ed25519 SHA256:"),
        "{}",
        told(&out)
    );
    assert_eq!(
        *sites.asked.lock().unwrap(),
        ["github.com:443", "launchpad.net:443"]
    );
    let lock = fs::read_to_string(dir.join("palmfarm.lock")).unwrap();
    for line in [
        format!("  \"{} github:nina\",\n", key(0)),
        format!("  \"{} github:nina\",\n", key(2)),
        format!("  \"{} launchpad:nina\",\n", key(1)),
    ] {
        assert!(lock.contains(&line), "{lock}");
    }
    let quiet = sites.run(dir, &["check"]);
    assert!(!told(&quiet).contains("palmfarm.lock"), "{}", told(&quiet));

    // What changes elsewhere changes nothing here, until somebody asks for it.
    sites.put("nina.keys", "200 OK", "", &format!("{}\n", key(1)));
    let out = sites.run(dir, &["lock"]);
    assert!(
        told(&out).contains("has all that farm.yaml takes from elsewhere"),
        "{}",
        told(&out)
    );
    let out = sites.run(dir, &["build", "-o", "palm.img"]);
    assert!(matches!(out.status.code(), Some(0 | 1)), "{}", told(&out));
    assert_eq!(fs::read_to_string(dir.join("palmfarm.lock")).unwrap(), lock);
    assert_eq!(sites.asked(), 2);
    let out = sites.run(dir, &["lock", "--update", "github:nina", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let event: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(event["account"], "github:nina");
    assert_eq!(
        (
            event["added"].as_array().unwrap().len(),
            event["removed"].as_array().unwrap().len()
        ),
        (1, 2)
    );
    let new = fs::read_to_string(dir.join("palmfarm.lock")).unwrap();
    assert!(
        new.contains(&format!("{} github:nina", key(1))) && !new.contains(&key(2)),
        "{new}"
    );
    let out = sites.run(dir, &["lock", "--update", "github:craig"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("its accounts are github:nina, launchpad:nina"),
        "{}",
        told(&out)
    );
}

#[test]
fn whatever_is_not_a_list_of_keys_is_refused() {
    let Some(sites) = Sites::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let thousand = format!("{}\n", key(0)).repeat(1000);
    let many: &[(&str, &str, &str, &str, &str)] = &[
        (
            "gone",
            "404 Not Found",
            "",
            "Not Found",
            "there is no account \"gone\" at GitHub",
        ),
        ("down", "503 Unavailable", "", "", "the server answers 503"),
        ("empty", "200 OK", "", "\n", "github:empty has no public SSH keys"),
        (
            "moved",
            "301 Moved",
            "Location: https://github.com/other.keys\r\n",
            "",
            "leads to https://github.com/other.keys, and it may not be elsewhere",
        ),
        (
            "page",
            "200 OK",
            "",
            "<!DOCTYPE html><p>Sign in",
            "is not a list of public SSH keys: it is a web page",
        ),
        (
            "text",
            "200 OK",
            "",
            "hello\n",
            "line 1 is not a public key: it does not start with a key type",
        ),
        ("many", "200 OK", "", &thousand, "it has more than 100 keys"),
        (
            "dsa",
            "200 OK",
            "",
            "ssh-dss AAAA\n",
            "OpenSSH refuses DSA keys since 7.0",
        ),
        (
            "short",
            "200 OK",
            "",
            "ssh-rsa AAAA\n",
            "line 1 is not a public key: it is damaged",
        ),
    ];
    let with_options = format!("command=\"x\" {}\n", key(0));
    let large = "x".repeat(600 << 10);
    let more = [
        (
            "options",
            "200 OK",
            "",
            with_options.as_str(),
            "a key has options",
        ),
        (
            "large",
            "200 OK",
            "",
            large.as_str(),
            "has more than 524288 bytes",
        ),
    ];
    for (name, status, headers, body, expect) in many.iter().chain(&more) {
        sites.put(&format!("{name}.keys"), status, headers, body);
        farm(dir, &format!("{{github: {name}}}"));
        for command in [&["lock"][..], &["build", "-o", "palm.img"]] {
            let out = sites.run(dir, command);
            let code = if *name == "down" { 3 } else { 1 };
            assert_eq!(out.status.code(), Some(code), "{name}: {}", told(&out));
            assert!(told(&out).contains(expect), "{name}: {}", told(&out));
            assert!(told(&out).contains("hint: "), "{name}: {}", told(&out));
        }
        assert!(
            !dir.join("palmfarm.lock").exists() && !dir.join("palm.img").exists(),
            "{name}"
        );
    }
    // All or nothing.
    sites.put("nina.keys", "200 OK", "", &key(0));
    farm(dir, "{github: nina}, {github: page}");
    let out = sites.run(dir, &["lock"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(!dir.join("palmfarm.lock").exists());
}

#[test]
fn init_takes_the_keys_of_an_account() {
    let Some(sites) = Sites::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    sites.put("nina.keys", "200 OK", "", &key(0));
    let out = sites.run(dir, &["init", "--github", "nina", "--user", "nina"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let farm = fs::read_to_string(dir.join("farm.yaml")).unwrap();
    assert!(farm.contains("\n      - {github: nina}\n"), "{farm}");
    let out = sites.run(dir, &["check"]);
    assert!(out.status.success() && out.stderr.is_empty(), "{}", told(&out));
    assert_eq!(sites.asked(), 1);
    let out = sites.run(dir, &["init", "other.yaml", "--github", "nobody"]);
    assert!(
        !out.status.success() && !dir.join("other.yaml").exists(),
        "{}",
        told(&out)
    );
}
