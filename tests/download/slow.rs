//! Servers that send for ever, one byte at a time: waiting for a list ends after a while, and can be stopped.

use std::process::Stdio;
use std::time::{Duration, Instant};

use palmfarm::base::download::{Client, DownloadError, Limits, Url};
use palmfarm::progress::Cancel;

use crate::command::{palmfarm, told};
use crate::noise;
use crate::server::{Served, Server};

#[test]
fn a_list_that_comes_byte_by_byte_is_given_up() {
    let server = Server::start();
    let file = Served {
        drip: Some(Duration::from_millis(20)),
        ..Served::new(&noise(1000, 17))
    };
    server.serve("/a", file);
    let url = Url::parse(&server.url("/a")).unwrap();
    let limits = Limits {
        // Enough for a byte to come, on a busy machine, too.
        small: Duration::from_secs(2),
        ..Limits::default()
    };
    let client = Client::new(limits, None);
    let started = Instant::now();
    let error = client.small(&url, 5000, &Cancel::new()).unwrap_err();
    assert!(
        matches!(error, DownloadError::Slow { done, .. } if (1..1000).contains(&done)),
        "{error}"
    );
    assert!(!error.is_refusal());
    // A request to stop is noticed between two bytes.
    let cancel = Cancel::new();
    cancel.cancel();
    let error = client.small(&url, 5000, &cancel).unwrap_err();
    assert!(matches!(error, DownloadError::Cancelled), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_signal_ends_the_waiting_for_a_list() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let list = Served {
        drip: Some(Duration::from_millis(50)),
        ..Served::new(&noise(10_000, 40))
    };
    server.serve("/22.04/release/SHA256SUMS", list);
    let mirror = server.url("");
    let child = palmfarm(dir.path())
        .args(["base", "fetch", "ubuntu-22.04-armhf", "--mirror", &mirror])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while server.requests().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    // So that the answer has begun.
    std::thread::sleep(Duration::from_millis(200));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let stopped = Instant::now();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", told(&out));
    assert!(stopped.elapsed() < Duration::from_secs(20));
    assert!(server.requests().len() == 1, "{:?}", server.requests());
}
