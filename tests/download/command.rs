//! `palmfarm base` and the downloads of `build`, from outside.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use palmfarm::base::download::{cached_name, Url};
use palmfarm::base::source::Sha256Sum;

use crate::common::agents::{agents, give_agents};
use crate::common::{skipped, skipped_in_part};
use crate::server::{Served, Server};
use crate::{names, noise};

pub(crate) fn palmfarm(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palmfarm"));
    give_agents(&mut command);
    command.current_dir(dir).env("XDG_CACHE_HOME", dir.join("cache"));
    for proxy in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    ] {
        command.env_remove(proxy);
    }
    command
}

pub(crate) fn told(out: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

fn bases(dir: &Path) -> std::path::PathBuf {
    dir.join("cache/palmfarm/bases")
}

fn here(dir: &Path, url: &str) -> std::path::PathBuf {
    bases(dir).join(cached_name(&Url::parse(url).unwrap()))
}

#[test]
fn a_killed_download_goes_on_where_it_stopped() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(3_000_000, 30);
    let url = server.url("/big.img.xz");
    let sum = Sha256Sum::of(&bytes).to_string();
    let hang = Served {
        hang_after: Some(1_500_000),
        ..Served::new(&bytes)
    };
    server.serve("/big.img.xz", hang);
    let mut child = palmfarm(dir.path())
        .args(["base", "fetch", &url, "--sha256", &sum])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let part = here(dir.path(), &url).with_extension("xz.part");
    for _ in 0..3000 {
        if fs::metadata(&part).is_ok_and(|part| part.len() >= 1_500_000) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // A second one keeps its hands off.
    let out = palmfarm(dir.path())
        .args(["base", "fetch", &url, "--sha256", &sum])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", told(&out));
    assert!(
        told(&out).contains("another palmfarm is downloading"),
        "{}",
        told(&out)
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!here(dir.path(), &url).exists());

    server.serve("/big.img.xz", Served::new(&bytes));
    let out = palmfarm(dir.path())
        .args(["base", "fetch", &url, "--sha256", &sum])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert_eq!(fs::read(here(dir.path(), &url)).unwrap(), bytes);
    assert_eq!(server.starts(), [None, Some(1_500_000)]);
    assert_eq!(names(&bases(dir.path())).len(), 1);
    // It is there: no third request.
    let out = palmfarm(dir.path())
        .args(["base", "fetch", &url, "--sha256", &sum])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn an_interrupted_download_says_that_it_can_go_on() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(100_000, 31);
    let hang = Served {
        hang_after: Some(50_000),
        ..Served::new(&bytes)
    };
    server.serve("/x.img", hang);
    let url = server.url("/x.img");
    let child = palmfarm(dir.path())
        .args([
            "base",
            "fetch",
            &url,
            "--sha256",
            &Sha256Sum::of(&bytes).to_string(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let part = here(dir.path(), &url).with_extension("img.part");
    for _ in 0..3000 {
        if fs::metadata(&part).is_ok_and(|part| part.len() >= 50_000) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // It notices when something comes, or the line ends.
    drop(server);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", told(&out));
    assert!(
        told(&out).contains("the same command resumes the download"),
        "{}",
        told(&out)
    );
    assert!(part.exists());
}

#[test]
fn a_lost_connection_is_named_with_the_tries_that_are_left() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(300_000, 41);
    let fetch = |name: &str, more: &[&str]| {
        let file = Served {
            cuts: vec![100_000],
            ..Served::new(&bytes)
        };
        server.serve(name, file);
        let sum = Sha256Sum::of(&bytes).to_string();
        let url = server.url(name);
        let out = palmfarm(dir.path())
            .args([&["base", "fetch", &url, "--sha256", &sum], more].concat())
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
        told(&out)
    };
    let text = fetch("/a.img.xz", &[]);
    assert!(
        text.contains("download: connection lost, trying again (2 of 5)"),
        "{text}"
    );
    let events = fetch("/b.img.xz", &["--json"]);
    let waiting = events.lines().find(|line| line.contains("\"waiting\"")).unwrap();
    let waiting: serde_json::Value = serde_json::from_str(waiting).unwrap();
    assert_eq!(waiting["phase"], "download");
    assert!(!fetch("/c.img.xz", &["--quiet"]).contains("connection lost"));
}

#[test]
fn exit_codes_say_what_happened() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(1000, 32);
    server.serve("/x.img", Served::new(&bytes));
    let other = Sha256Sum::of(b"other").to_string();
    let gone = Server::start().url("/x.img");
    for (args, code, says) in [
        (&["fetch", &server.url("/x.img")][..], 1, "not authenticated"),
        (
            &["fetch", &server.url("/x.img"), "--sha256", &other],
            1,
            "expected",
        ),
        (
            &["fetch", &server.url("/gone.img"), "--sha256", &other],
            3,
            "answers 404",
        ),
        (&["fetch", &gone, "--sha256", &other], 3, "requesting"),
        (&["fetch", "ubuntu-1.0"], 1, "palmfarm base list"),
        (&["fetch", "./x.img"], 2, "path"),
        (&["fetch", "mini"], 2, "built in"),
        (&["fetch", "ftp://a.example/x"], 1, "http and https"),
        (
            &["fetch", "ubuntu-22.04-armhf", "--sha256", &other],
            2,
            "--sha256",
        ),
        (
            &["fetch", "ubuntu-22.04-armhf", "--mirror", &server.url("")],
            3,
            "SHA256SUMS",
        ),
        (&["suggest", "orange"], 1, "does not know a board"),
        (&["suggest", "zero"], 1, "too old"),
        (&["verify", "nothing"], 1, "opening"),
    ] {
        let out = palmfarm(dir.path()).arg("base").args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}", told(&out));
        assert!(told(&out).contains(says), "{args:?}: {}", told(&out));
        assert!(
            names(&bases(dir.path()))
                .iter()
                .all(|name| name.ends_with("SUMS")),
            "{args:?}"
        );
    }
}

#[test]
fn a_mirror_with_a_list_of_somebody_else_is_refused() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/base/download/testdata");
    let read = |name: &str| fs::read(testdata.join(name)).unwrap();
    let fetch = || {
        let mirror = server.url("");
        palmfarm(dir.path())
            .args(["base", "fetch", "ubuntu-22.04-armhf", "--mirror", &mirror])
            .output()
            .unwrap()
    };
    // Ubuntu's own list of another release, under Ubuntu's own signature: it names no such image.
    server.serve("/22.04/release/SHA256SUMS", Served::new(&read("SHA256SUMS")));
    server.serve(
        "/22.04/release/SHA256SUMS.gpg",
        Served::new(&read("SHA256SUMS.gpg")),
    );
    let out = fetch();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("does not contain ubuntu-22.04.5"),
        "{}",
        told(&out)
    );
    // The same with the image added to it.
    let mut list = read("SHA256SUMS");
    list.extend(
        format!(
            "{} *ubuntu-22.04.5-preinstalled-server-armhf+raspi.img.xz\n",
            Sha256Sum::of(b"x")
        )
        .bytes(),
    );
    server.serve("/22.04/release/SHA256SUMS", Served::new(&list));
    let out = fetch();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("is not a signature of this list by 843938DF228D22F7B3742BC0D94AA3F0EFE21092"),
        "{}",
        told(&out)
    );
    assert!(names(&bases(dir.path())).is_empty());
}

#[test]
fn files_are_verified_by_lists() {
    let dir = tempfile::tempdir().unwrap();
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/base/download/testdata");
    fs::write(dir.path().join("x.img"), "x").unwrap();
    let list = format!("{} *x.img\n{} *y.img\n", Sha256Sum::of(b"x"), Sha256Sum::of(b"y"));
    fs::write(dir.path().join("SUMS"), list).unwrap();
    let verify = |args: &[&str]| {
        palmfarm(dir.path())
            .args(["base", "verify"])
            .args(args)
            .output()
            .unwrap()
    };
    let out = verify(&["x.img", "--sums", "SUMS"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    fs::write(dir.path().join("y.img"), "x").unwrap();
    let out = verify(&["y.img", "--sums", "SUMS"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    // A name that the list does not have, and a file that it has.
    fs::write(dir.path().join("z.img"), "y").unwrap();
    let out = verify(&["z.img", "--sums", "SUMS"]);
    assert!(told(&out).contains("is y.img"), "{}", told(&out));
    let signature = testdata.join("SHA256SUMS.gpg");
    let out = verify(&[
        "x.img",
        "--sums",
        "SUMS",
        "--signature",
        signature.to_str().unwrap(),
    ]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("checking the signature"), "{}", told(&out));
    let out = verify(&["x.img"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    let file = "ubuntu-22.04.5-preinstalled-server-armhf+raspi.img.xz";
    fs::write(dir.path().join(file), "x").unwrap();
    let out = verify(&[file]);
    assert!(told(&out).contains("expected 37002f78"), "{}", told(&out));
}

#[test]
fn a_build_downloads_what_the_farm_names_and_offline_does_not() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let mini = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/src/base/mini/mini.img.xz")).unwrap();
    server.serve("/mini.img.xz", Served::new(&mini));
    let url = server.url("/mini.img.xz");
    let farm = format!(
        "farm: 1\nbase: {url}\nsha256: {}\nhostname: palm\nusers: [{{name: craig, password: {{file: secret}}}}]\n",
        Sha256Sum::of(&mini)
    );
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    fs::write(dir.path().join("secret"), "x\n").unwrap();
    for command in [
        &["build", "farm.yaml", "-o", "palm.img", "--offline"][..],
        &["plan", "farm.yaml", "--files"],
        &["plan", "farm.yaml", "--format", "json"],
        &["plan", "farm.yaml"],
    ] {
        let out = palmfarm(dir.path()).args(command).output().unwrap();
        // Names and addresses do not depend on the base.
        let refused = i32::from(command != ["plan", "farm.yaml"]);
        assert_eq!(out.status.code(), Some(refused), "{}", told(&out));
        assert!(
            told(&out).contains(&format!("hint: `palmfarm base fetch {url}`")),
            "{}",
            told(&out)
        );
    }
    assert!(server.requests().is_empty());
    let agents = agents();
    let out = palmfarm(dir.path())
        .args(["build", "farm.yaml", "-o", "palm.img"])
        .output()
        .unwrap();
    assert_eq!(fs::read(here(dir.path(), &url)).unwrap(), mini, "{}", told(&out));
    if let Err(why) = agents {
        skipped_in_part(format!("building from a URL to the end: {why}"));
        assert!(told(&out).contains("agent"), "{}", told(&out));
    } else {
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    }
    // A second time it is there, offline, too.
    let out = palmfarm(dir.path())
        .args(["build", "farm.yaml", "-o", "palm.img", "--offline"])
        .output()
        .unwrap();
    assert!(!told(&out).contains("base fetch"), "{}", told(&out));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn names_that_are_not_here_are_not_downloaded_offline() {
    let dir = tempfile::tempdir().unwrap();
    let farm = "farm: 1\nbase: ubuntu-22.04-armhf\nhostname: palm\nusers: [{name: craig, password: {file: secret}}]\n";
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    fs::write(dir.path().join("secret"), "x\n").unwrap();
    let out = palmfarm(dir.path())
        .args(["build", "farm.yaml", "-o", "palm.img", "--offline"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(
        told(&out).contains("hint: `palmfarm base fetch ubuntu-22.04-armhf` downloads it"),
        "{}",
        told(&out)
    );
}

#[test]
fn proxies_are_taken_from_the_environment() {
    let (proxy, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(1000, 33);
    proxy.serve("/x.img", Served::new(&bytes));
    let sum = Sha256Sum::of(&bytes).to_string();
    let out = palmfarm(dir.path())
        .args(["base", "fetch", "http://images.example/x.img", "--sha256", &sum])
        .env("HTTP_PROXY", proxy.url(""))
        .output()
        .unwrap();
    assert!(!proxy.requests().is_empty(), "{}", told(&out));
    assert!(
        proxy.requests()[0].target.contains("images.example"),
        "{:?}",
        proxy.requests()
    );
}

/// `openssl` as a server that answers every request with `answer`, or a line that it cannot.
fn tls(dir: &Path, answer: &str) -> Option<(std::process::Child, String)> {
    fs::write(dir.join("answer"), answer).unwrap();
    let (server, port) = tls_server(dir, "DNS:localhost,IP:127.0.0.1")?;
    Some((server, format!("https://localhost:{port}/answer")))
}

/// `openssl` as a server for `names` that answers with the files in `dir`, which are whole answers, and its port; or a line
/// that it cannot. Its certificate is `dir/cert.pem`.
pub(crate) fn tls_server(dir: &Path, names: &str) -> Option<(std::process::Child, u16)> {
    let make = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            &format!("subjectAltName={names}"),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .stderr(Stdio::null())
        .status();
    if !make.is_ok_and(|status| status.success()) {
        skipped("there is no openssl here");
        return None;
    }
    let mut server = Command::new("openssl")
        .args(["s_server", "-HTTP", "-key", "key.pem", "-cert", "cert.pem"])
        // Any port that is free; it prints which.
        .args(["-accept", "127.0.0.1:0"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    let port = out.by_ref().lines().find_map(|line| {
        line.unwrap()
            .strip_prefix("ACCEPT 127.0.0.1:")?
            .parse::<u16>()
            .ok()
    });
    // What it prints about two requests fits into the pipe, which must not be closed before it ends.
    server.stdout = Some(out.into_inner());
    Some((server, port.unwrap()))
}

#[test]
fn https_is_checked_and_never_left() {
    let (plain, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = b"an image";
    plain.serve("/x.img", Served::new(bytes));
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nan image";
    let leads = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        plain.url("/x.img")
    );
    let fetch = |url: &str, trusted: bool| {
        let mut command = palmfarm(dir.path());
        command.args(["base", "fetch", url]);
        if trusted {
            command.env("SSL_CERT_FILE", dir.path().join("cert.pem"));
        }
        command.output().unwrap()
    };
    let Some((mut server, url)) = tls(dir.path(), whole) else {
        return;
    };
    let (good, stranger) = (fetch(&url, true), fetch(&url, false));
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(good.status.code(), Some(0), "{}", told(&good));
    assert_eq!(fs::read(here(dir.path(), &url)).unwrap(), bytes);
    assert_eq!(stranger.status.code(), Some(3), "{}", told(&stranger));
    assert!(told(&stranger).contains("certificate"), "{}", told(&stranger));
    let Some((mut server, url)) = tls(dir.path(), &leads) else {
        return;
    };
    let out = fetch(&url, true);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("anybody on the way"), "{}", told(&out));
    assert!(plain.requests().is_empty());
}
