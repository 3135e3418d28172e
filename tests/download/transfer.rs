//! One file, and all that can happen to it on its way.

use std::fs;

use palmfarm::base::download::{DownloadError, Url};
use palmfarm::base::source::Sha256Sum;
use palmfarm::progress::Cancel;

use crate::server::{Served, Server};
use crate::{client, download, names, noise};

#[test]
fn a_file_comes_whole_and_leaves_nothing_else() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(700_000, 1);
    server.serve("/a", Served::new(&bytes));
    let sum = download(&server.url("/a"), dir.path(), Some(Sha256Sum::of(&bytes))).unwrap();
    assert_eq!(sum, Sha256Sum::of(&bytes));
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), bytes);
    assert_eq!(names(dir.path()), ["image"]);
    let request = &server.requests()[0];
    assert_eq!(request.start(), None);
    assert_eq!(request.headers["accept-encoding"], "identity");
}

#[test]
fn a_broken_line_is_taken_up_where_it_broke() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(500_000, 2);
    let file = Served {
        cuts: vec![100_000, 250_000, 1],
        ..Served::new(&bytes)
    };
    server.serve("/a", file);
    download(&server.url("/a"), dir.path(), Some(Sha256Sum::of(&bytes))).unwrap();
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), bytes);
    assert_eq!(
        server.starts(),
        [None, Some(100_000), Some(350_000), Some(350_001)]
    );
    assert_eq!(server.requests()[1].headers["if-range"], "\"one\"");
}

#[test]
fn a_server_without_ranges_is_asked_for_the_whole_again() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(300_000, 3);
    let file = Served {
        ranges: false,
        cuts: vec![200_000],
        ..Served::new(&bytes)
    };
    server.serve("/a", file);
    download(&server.url("/a"), dir.path(), Some(Sha256Sum::of(&bytes))).unwrap();
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), bytes);
    assert_eq!(server.starts(), [None, Some(200_000)]);
}

#[test]
fn without_a_validator_nothing_is_taken_up() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(300_000, 4);
    for etag in [None, Some("W/\"weak\"")] {
        let file = Served {
            etag,
            cuts: vec![200_000],
            ..Served::new(&bytes)
        };
        server.serve("/a", file);
        download(&server.url("/a"), dir.path(), Some(Sha256Sum::of(&bytes))).unwrap();
        assert_eq!(fs::read(dir.path().join("image")).unwrap(), bytes);
    }
    assert_eq!(server.starts(), [None; 4]);
}

#[test]
fn a_file_that_changed_meanwhile_comes_anew() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let (old, new) = (noise(300_000, 5), noise(280_000, 6));
    let file = Served {
        cuts: vec![100_000; 9],
        ranges: false,
        ..Served::new(&old)
    };
    server.serve("/a", file);
    let error = download(&server.url("/a"), dir.path(), None).unwrap_err();
    assert!(
        matches!(error, DownloadError::Broken { .. } | DownloadError::Short { .. }),
        "{error}"
    );
    assert_eq!(names(dir.path()), ["image.part", "image.part.from"]);
    let file = Served {
        etag: Some("\"two\""),
        ..Served::new(&new)
    };
    server.serve("/a", file);
    assert_eq!(
        download(&server.url("/a"), dir.path(), None).unwrap(),
        Sha256Sum::of(&new)
    );
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), new);
}

#[test]
fn what_is_left_of_another_url_is_not_taken_up() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let (a, b) = (noise(300_000, 7), noise(300_000, 8));
    let file = Served {
        cuts: vec![100_000; 9],
        ranges: false,
        ..Served::new(&a)
    };
    server.serve("/a", file);
    server.serve("/b", Served::new(&b));
    download(&server.url("/a"), dir.path(), None).unwrap_err();
    assert_eq!(
        download(&server.url("/b"), dir.path(), None).unwrap(),
        Sha256Sum::of(&b)
    );
    assert_eq!(server.starts().last(), Some(&None));
}

#[test]
fn a_truncated_download_leaves_no_file() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(300_000, 9);
    // It never gets beyond the first 1000 bytes.
    let file = Served {
        cuts: [vec![1000], vec![0; 50]].concat(),
        ..Served::new(&bytes)
    };
    server.serve("/a", file);
    let error = download(&server.url("/a"), dir.path(), None).unwrap_err();
    assert!(
        matches!(error, DownloadError::Broken { .. } | DownloadError::Short { .. }),
        "{error}"
    );
    assert!(!error.is_refusal());
    assert!(error.hint().unwrap().contains("resumes"), "{error}");
    assert!(!dir.path().join("image").exists());
}

#[test]
fn a_wrong_checksum_leaves_nothing_and_keeps_what_was_there() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let (bytes, want) = (noise(3000, 10), Sha256Sum::of(b"another"));
    server.serve("/a", Served::new(&bytes));
    fs::write(dir.path().join("image"), "before").unwrap();
    match download(&server.url("/a"), dir.path(), Some(want)).unwrap_err() {
        DownloadError::Sha256 { expected, found, .. } => {
            assert_eq!((expected, found), (want, Sha256Sum::of(&bytes)));
        }
        error => panic!("{error}"),
    }
    assert_eq!(names(dir.path()), ["image"]);
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), b"before");
}

#[test]
fn a_damaged_part_of_an_earlier_run_is_thrown_away() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(300_000, 11);
    let file = Served {
        cuts: [vec![100_000], vec![0; 5]].concat(),
        ..Served::new(&bytes)
    };
    server.serve("/a", file);
    download(&server.url("/a"), dir.path(), None).unwrap_err();
    let part = dir.path().join("image.part");
    let mut left = fs::read(&part).unwrap();
    assert_eq!(left.len(), 100_000);
    left[5000] ^= 1;
    fs::write(&part, left).unwrap();
    server.serve("/a", Served::new(&bytes));
    download(&server.url("/a"), dir.path(), Some(Sha256Sum::of(&bytes))).unwrap();
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), bytes);
}

#[test]
fn a_part_that_was_not_asked_for_is_not_taken() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(300_000, 12);
    let file = Served {
        cuts: vec![100_000],
        shifted: 7,
        ..Served::new(&bytes)
    };
    server.serve("/a", file);
    download(&server.url("/a"), dir.path(), None).unwrap();
    assert_eq!(fs::read(dir.path().join("image")).unwrap(), bytes);
    assert_eq!(server.starts(), [None, Some(100_000), None]);
}

#[test]
fn a_file_without_a_length_ends_where_it_ends() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(123_456, 13);
    let file = Served {
        chunked: true,
        cuts: vec![50_000],
        ..Served::new(&bytes)
    };
    server.serve("/a", file);
    assert_eq!(
        download(&server.url("/a"), dir.path(), None).unwrap(),
        Sha256Sum::of(&bytes)
    );
}

#[test]
fn a_server_that_is_away_for_a_moment_is_asked_again() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(1000, 14);
    let file = Served {
        statuses: vec![503, 429, 500],
        ..Served::new(&bytes)
    };
    server.serve("/a", file);
    download(&server.url("/a"), dir.path(), None).unwrap();
    for status in [403, 404, 410] {
        let file = Served {
            statuses: vec![status; 9],
            ..Served::new(&bytes)
        };
        server.serve("/b", file);
        let before = server.requests().len();
        match download(&server.url("/b"), dir.path(), None).unwrap_err() {
            DownloadError::Status { status: found, .. } => assert_eq!(found, status),
            error => panic!("{error}"),
        }
        assert_eq!(server.requests().len(), before + 1);
    }
}

#[test]
fn redirects_are_followed_to_an_end() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(1000, 15);
    let leads = |to: &str| Served {
        statuses: vec![302; 99],
        headers: vec![("Location", to.to_owned())],
        ..Served::new(b"")
    };
    server.serve("/a", leads("/x/b"));
    server.serve("/x/b", leads("c"));
    server.serve("/x/c", leads(&server.url("/d")));
    server.serve("/d", Served::new(&bytes));
    assert_eq!(
        download(&server.url("/a"), dir.path(), None).unwrap(),
        Sha256Sum::of(&bytes)
    );
    server.serve("/loop", leads("/loop"));
    let error = download(&server.url("/loop"), dir.path(), None).unwrap_err();
    assert!(matches!(error, DownloadError::Redirects { .. }), "{error}");
    server.serve("/file", leads("file:///etc/passwd"));
    let error = download(&server.url("/file"), dir.path(), None).unwrap_err();
    assert!(matches!(error, DownloadError::Url { .. }), "{error}");
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let file = Served {
        headers: vec![("Content-Encoding", "gzip".into())],
        ..Served::new(b"x")
    };
    server.serve("/a", file);
    let error = download(&server.url("/a"), dir.path(), None).unwrap_err();
    assert!(matches!(error, DownloadError::Answer { .. }), "{error}");
    server.serve("/b", Served::new(&noise(5000, 16)));
    let url = Url::parse(&server.url("/b")).unwrap();
    assert_eq!(client().small(&url, 5000, &Cancel::new()).unwrap().len(), 5000);
    let error = client().small(&url, 4999, &Cancel::new()).unwrap_err();
    assert!(
        matches!(error, DownloadError::TooLarge { most: 4999, .. }),
        "{error}"
    );
    // More bytes than there is room for are not even begun.
    let file = Served {
        headers: vec![("Content-Length", (1_u64 << 35).to_string())],
        chunked: true,
        ..Served::new(b"x")
    };
    server.serve("/c", file);
    assert!(download(&server.url("/c"), dir.path(), None).is_err());
    assert!(!dir.path().join("image").exists());
}

#[test]
fn nobody_there_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Server::start().url("/a");
    let error = download(&gone, dir.path(), None).unwrap_err();
    assert!(matches!(error, DownloadError::Ask { .. }), "{error}");
    assert!(!error.is_refusal());
}

#[test]
fn what_cannot_be_gone_on_from_is_not_left() {
    let (server, dir) = (Server::start(), tempfile::tempdir().unwrap());
    let bytes = noise(300_000, 18);
    for etag in [None, Some("W/\"weak\""), Some("\"strong\"")] {
        let file = Served {
            etag,
            chunked: true,
            ranges: false,
            cuts: vec![100_000; 9],
            ..Served::new(&bytes)
        };
        server.serve("/a", file);
        download(&server.url("/a"), dir.path(), None).unwrap_err();
        let left: &[&str] = match etag {
            Some("\"strong\"") => &["image.part", "image.part.from"],
            _ => &[],
        };
        assert_eq!(names(dir.path()), left, "{etag:?}");
    }
}
