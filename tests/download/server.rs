//! A small HTTP server: GET, ranges with If-Range as RFC 9110 has them, and whatever misbehaviour a test asks for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A file on the server, and how it is served.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    /// The whole header's value; `None`: no `ETag`.
    pub(crate) etag: Option<&'static str>,
    pub(crate) ranges: bool,
    /// The connection is cut after so many bytes of a body; one entry per request, then no more cuts.
    pub(crate) cuts: Vec<usize>,
    /// Nothing more comes after so many bytes of a body, and the connection stays open.
    pub(crate) hang_after: Option<usize>,
    /// A byte at a time, so long apart.
    pub(crate) drip: Option<std::time::Duration>,
    /// No Content-Length: chunked.
    pub(crate) chunked: bool,
    /// Headers beside the usual ones.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Statuses that come before anything else, one per request.
    pub(crate) statuses: Vec<u16>,
    /// A part that begins so many bytes before the one that was asked for.
    pub(crate) shifted: usize,
}

impl Served {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            etag: Some("\"one\""),
            ranges: true,
            cuts: Vec::new(),
            hang_after: None,
            drip: None,
            chunked: false,
            headers: Vec::new(),
            statuses: Vec::new(),
            shifted: 0,
        }
    }
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The second word of the first line.
    pub(crate) target: String,
    /// Headers, names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    /// The first byte asked for; `None`: the whole file.
    pub(crate) fn start(&self) -> Option<usize> {
        let range = self
            .headers
            .get("range")?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?;
        range.parse().ok()
    }
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Served>,
    requests: Vec<Request>,
}

/// A server that ends with the test.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            ended: Arc::default(),
        };
        let (state, ended) = (Arc::clone(&server.state), Arc::clone(&server.ended));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (state, ended) = (Arc::clone(&state), Arc::clone(&ended));
                std::thread::spawn(move || {
                    // A client that goes away is part of what is tested.
                    drop(stream.and_then(|stream| answer(&stream, &state, &ended)));
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn serve(&self, path: &str, file: Served) {
        self.state.lock().unwrap().files.insert(path.into(), file);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Where each request began; `None`: at the whole file.
    pub(crate) fn starts(&self) -> Vec<Option<usize>> {
        self.requests().iter().map(Request::start).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the one that waits for connections.
        drop(TcpStream::connect(self.address));
    }
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { target, headers }))
}

fn answer(stream: &TcpStream, state: &Mutex<State>, ended: &AtomicBool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some(request) = read_request(&mut reader)? else {
        return Ok(());
    };
    let mut out = stream;
    // A proxy is asked for whole URLs.
    let path = match request.target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => &request.target,
    };
    let file = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let found = state.files.get_mut(path).map(|file| {
            let mut once = file.clone();
            once.statuses.truncate(1);
            if file.statuses.is_empty() {
                once.cuts.truncate(1);
                if !file.cuts.is_empty() {
                    file.cuts.remove(0);
                }
            } else {
                file.statuses.remove(0);
            }
            once
        });
        found
    };
    let Some(file) = file else {
        return write!(
            out,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    match file.statuses.first() {
        Some(status) => {
            write!(
                out,
                "HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n"
            )?;
            for (name, value) in &file.headers {
                write!(out, "{name}: {value}\r\n")?;
            }
            write!(out, "\r\n")
        }
        None => send(stream, &request, &file, ended),
    }
}

/// The file, or the part of it that was asked for, as far as it is sent.
fn send(stream: &TcpStream, request: &Request, file: &Served, ended: &AtomicBool) -> std::io::Result<()> {
    let mut out = stream;
    let size = file.bytes.len();
    let same = request.headers.get("if-range").map(String::as_str) == file.etag;
    let start = request.start().filter(|_| file.ranges && same);
    if start.is_some_and(|start| start >= size) {
        return write!(
            out,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{size}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let first = start
        .unwrap_or(0)
        .saturating_sub(if start.is_some() { file.shifted } else { 0 });
    let body = &file.bytes[first..];
    match start {
        Some(_) => write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{}/{size}\r\n",
            size - 1
        )?,
        None => write!(out, "HTTP/1.1 200 OK\r\n")?,
    }
    if let Some(etag) = file.etag {
        write!(out, "ETag: {etag}\r\n")?;
    }
    for (name, value) in &file.headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    if file.chunked {
        write!(out, "Transfer-Encoding: chunked\r\n")?;
    } else {
        write!(out, "Content-Length: {}\r\n", body.len())?;
    }
    write!(out, "Connection: close\r\n\r\n")?;
    let cut = file.cuts.first().copied().unwrap_or(usize::MAX).min(body.len());
    let sent = &body[..cut.min(file.hang_after.unwrap_or(usize::MAX))];
    if let Some(pause) = file.drip {
        for byte in sent {
            out.write_all(&[*byte])?;
            std::thread::sleep(pause);
        }
    } else if file.chunked {
        for piece in sent.chunks(1000) {
            write!(out, "{:x}\r\n", piece.len())?;
            out.write_all(piece)?;
            write!(out, "\r\n")?;
        }
        if sent.len() == body.len() {
            write!(out, "0\r\n\r\n")?;
        }
    } else {
        out.write_all(sent)?;
    }
    out.flush()?;
    while file.hang_after.is_some() && !ended.load(Ordering::Relaxed) {
        std::thread::sleep(std::time::Duration::from_millis(20));
        // A client that was killed closes its end.
        let mut byte = [0];
        stream.set_read_timeout(Some(std::time::Duration::from_millis(20)))?;
        if matches!(std::io::Read::read(&mut &*stream, &mut byte), Ok(0)) {
            break;
        }
    }
    Ok(())
}
