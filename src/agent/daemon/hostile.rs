//! Tests: a broken or hostile daemon makes the agent report an error, and does nothing else to it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;

/// A daemon that answers each request with what `answer` makes of it.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "palmfarm-hostile-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::SeqCst)
    );
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    // The thread ends with the test program.
    thread::spawn(move || {
        for agent in listener.incoming().flatten() {
            speak(agent, &answer);
        }
    });
    path
}

fn speak(mut agent: UnixStream, answer: &impl Fn(&str) -> Vec<u8>) {
    let mut request = String::new();
    let mut piece = [0; 4096];
    let is_whole = |request: &str| {
        let (head, body) = request.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.map_or(Some(0), |length| length.parse().ok())?;
        (body.len() >= length).then_some(())
    };
    while is_whole(&request).is_none() {
        match agent.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => request.push_str(&String::from_utf8_lossy(&piece[..read])),
        }
    }
    // The agent may have closed the connection.
    let _ = agent.write_all(&answer(&request));
}

fn http(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A daemon that reports its version like any other, and then answers everything with `body`.
fn then(body: &'static str) -> Daemon {
    let about = r#"{"type":"sync","metadata":{"environment":{"server_version":"5.0"},"api_extensions":["instances"]}}"#;
    let path = serve(move |head| {
        http(if head.starts_with("GET /1.0 ") {
            about
        } else {
            body
        })
    });
    Daemon::connect(&path).unwrap()
}

fn small(body: &'static [u8]) -> impl FnOnce(&Daemon) -> DaemonResult<Value> {
    move |daemon| {
        let mut bytes = body;
        let mut upload = Upload {
            length: u64::try_from(body.len()).unwrap(),
            bytes: &mut bytes,
        };
        daemon.upload("sending", "/1.0/images", &[], &mut upload, PATIENCE)
    }
}

#[test]
fn no_answer_is_too_odd() {
    let huge = "x".repeat(9 << 20);
    let deep = "[".repeat(200_000);
    let answers: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0\0\0\0".to_vec(),
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnull".to_vec(),
        b"HTTP/1.1 65536 OK\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffe\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx".to_vec(),
        [b"HTTP/1.1 200 OK\r\n\r\n", huge.as_bytes()].concat(),
        [b"HTTP/1.1 200 OK\r\nX: ", huge.as_bytes()].concat(),
        [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(100_000)].concat(),
        b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000),
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_vec(),
            b"X: y\r\n".repeat(100_000),
        ]
        .concat(),
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            [b"10000\r\n", &[b'x'; 65536][..], b"\r\n"].concat().repeat(200),
        ]
        .concat(),
        http(&deep),
        http(""),
        http("{"),
        http("7"),
        http("null"),
        http(r#"{"type":"sync"}"#),
        http(r#"{"type":"error","error":7,"error_code":-1}"#),
        http(r#"{"type":"sync","metadata":{"environment":{"server_version":5}}}"#),
    ];
    for answer in answers {
        let shown: String = String::from_utf8_lossy(&answer).chars().take(60).collect();
        let path = serve(move |_| answer.clone());
        let Err(error) = Daemon::connect(&path) else {
            panic!("{shown:?} was taken for a daemon");
        };
        let message = error.to_string();
        assert!(message.len() < 2000, "{shown:?}: {} bytes", message.len());
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

#[test]
fn answers_of_the_wrong_shape_are_not_believed() {
    for body in [
        "7",
        r#"{"type":"async"}"#,
        r#"{"type":"async","operation":7}"#,
        r#"{"type":"async","operation":"/etc/passwd"}"#,
        r#"{"type":"async","operation":"/1.0/operations/x HTTP/1.1\r\nDELETE /"}"#,
        // The request for the operation has the same answer, so its state is missing.
        r#"{"type":"async","operation":"/1.0/operations/x","metadata":[]}"#,
        r#"{"type":"async","operation":"/1.0/operations/x","metadata":{"status_code":-7}}"#,
        r#"{"type":"error","error":"\u001b[2J","error_code":70000}"#,
    ] {
        let daemon = then(body);
        let change = daemon.change("making it", "POST", "/1.0/x", &Value::Null, PATIENCE);
        let upload = small(b"bytes")(&daemon);
        let exec = exec(&daemon, "web", &["true"], ("A", "b"), PATIENCE);
        for error in [
            change.map(|_| ()).err(),
            upload.map(|_| ()).err(),
            exec.map(|_| ()).err(),
        ] {
            // A number is JSON, so a change that answers with one has been accepted.
            let Some(error) = error else {
                assert_eq!(body, "7");
                continue;
            };
            let message = error.to_string();
            assert!(
                message.len() < 2000 && !message.chars().any(char::is_control),
                "{message:?}"
            );
        }
    }
    // A program without an exit code, or with logs that do not exist.
    for body in [
        r#"{"type":"sync","metadata":{"return":"0"}}"#,
        r#"{"type":"sync","metadata":{"output":{"1":"/1.0/x"}}}"#,
    ] {
        assert!(exec(&then(body), "web", &["true"], ("A", "b"), PATIENCE).is_err());
    }
    let daemon = then(r#"{"type":"sync","metadata":{"return":3,"output":{"1":"http://elsewhere/","2":7}}}"#);
    let exit = exec(&daemon, "web", &["true"], ("A", "b"), PATIENCE).unwrap();
    assert_eq!((exit.code, exit.output.len()), (3, 0));
}

#[test]
fn who_only_looks_tells_the_daemon_nothing() {
    let mut daemon = then("7");
    daemon.look_only();
    // Nobody listens there any more, so whatever is sent is another error.
    std::fs::remove_file(&daemon.socket).unwrap();
    let change = daemon.change("making it", "POST", "/1.0/x", &Value::Null, PATIENCE);
    let delete = daemon.delete("making it", "/1.0/x", PATIENCE);
    let upload = small(b"bytes")(&daemon);
    let exec = exec(&daemon, "web", &["true"], ("A", "b"), PATIENCE).map(|_| Value::Null);
    for done in [change, delete, upload, exec] {
        let error = done.unwrap_err();
        assert!(matches!(error.kind(), DaemonErrorKind::OnlyLooking), "{error}");
        assert!(!error.to_string().contains(':'), "{error}");
    }
}

#[test]
fn a_slow_daemon_runs_out_of_time() {
    let path = std::env::temp_dir().join(format!("palmfarm-dawdle-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for mut agent in listener.incoming().flatten() {
            // Faster than any timeout between two bytes.
            while agent.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        }
    });
    let request = Request {
        method: "GET",
        target: "/1.0",
        headers: &[],
        patience: Duration::from_millis(500),
    };
    let broken = exchange(&path, &request, None).unwrap_err().to_string();
    // And not because the line is too long, which it would be after a quarter of an hour.
    assert!(!broken.contains("line"), "{broken}");
}

/// A daemon that reads only the head, sends `answer` and closes the connection.
fn curt(answer: Vec<u8>) -> PathBuf {
    let path = std::env::temp_dir().join(format!("palmfarm-curt-{}-{}", std::process::id(), answer.len()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for mut agent in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && agent.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let _ = agent.write_all(&answer);
        }
    });
    path
}

/// Send more than a socket can hold to a daemon that closes the connection after the head.
fn interrupted(answer: &[u8]) -> Result<http::Answer, String> {
    let request = Request {
        method: "POST",
        target: "/1.0/images",
        headers: &[],
        patience: PATIENCE,
    };
    let length = 16 << 20;
    let body = Body {
        length,
        bytes: &mut std::io::repeat(0).take(length),
    };
    let path = curt(answer.into());
    let answer = exchange(&path, &request, Some(body));
    std::fs::remove_file(&path).unwrap();
    answer.map_err(|broken| broken.to_string())
}

#[test]
fn an_answer_in_the_middle_of_a_request_is_read() {
    let answer = interrupted(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (403, &b"no"[..]));
    // Without an answer, only the error of sending is known.
    for nothing in [
        &b""[..],
        b"HTTP/1.1 403 Forbidden\r\nConte",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let broken = interrupted(nothing).unwrap_err();
        assert!(broken.starts_with("sending the request: "), "{broken}");
    }
}

#[test]
fn a_request_to_delete_has_no_body() {
    let path = serve(|request| {
        http(if request.starts_with("GET /1.0 ") {
            r#"{"type":"sync","metadata":{"environment":{"server_version":"5.0"}}}"#
        } else if request.starts_with("DELETE /1.0/x HTTP/1.1\r\n")
            && request.ends_with("\r\n\r\n")
            && !request.contains("Content-Length")
        {
            r#"{"type":"sync","metadata":"deleted"}"#
        } else {
            "{}"
        })
    });
    let daemon = Daemon::connect(&path).unwrap();
    let deleted = daemon.delete("deleting it", "/1.0/x", PATIENCE).unwrap();
    assert_eq!(deleted, Value::from("deleted"));
    assert_eq!(daemon.changes(), 1);
}

#[test]
fn what_fails_for_a_moment_is_asked_again() {
    let failures = AtomicU32::new(0);
    let path = serve(move |request| {
        http(if request.starts_with("GET /1.0 ") {
            r#"{"type":"sync","metadata":{"environment":{"server_version":"5.0"}}}"#
        } else if failures.fetch_add(1, Ordering::SeqCst) == 0 {
            r#"{"type":"error","error_code":500,"error":"database is locked"}"#
        } else {
            r#"{"type":"sync","metadata":"there"}"#
        })
    });
    let daemon = Daemon::connect(&path).unwrap();
    assert_eq!(
        daemon.look("looking", "/1.0/x").unwrap(),
        Some(Value::from("there"))
    );
}

#[test]
fn a_change_names_the_state_that_it_is_for() {
    let path = serve(|request| {
        if request.starts_with("GET ") {
            let body = r#"{"type":"sync","metadata":{"environment":{"server_version":"5.0"}}}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\nEtag: abc\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            format!("{head}{body}").into_bytes()
        } else if request.contains("\r\nIf-Match: abc\r\n") {
            http(r#"{"type":"sync","metadata":"changed"}"#)
        } else {
            http(r#"{"type":"error","error_code":412,"error":"ETag doesn't match"}"#)
        }
    });
    let daemon = Daemon::connect(&path).unwrap();
    let (_, tag) = daemon.look_tagged("looking", "/1.0/x").unwrap().unwrap();
    let change = |tag: &str| daemon.change_if("changing", "PUT", "/1.0/x", &Value::Null, tag, PATIENCE);
    assert_eq!(change(&tag).unwrap(), Value::from("changed"));
    let error = crate::step::StepError::from(change("old").unwrap_err());
    // The step is taken again, and begins by looking.
    assert_eq!(error.daemon, crate::step::DaemonState::Busy);
}
