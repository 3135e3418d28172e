//! One HTTP/1.1 exchange over a unix socket: as much of RFC 9112 as LXD and Incus use there, and no more.
//!
//! Each request has a connection of its own. The daemon is on this machine, so that costs microseconds, and no state can
//! be left over from an exchange that a timeout ended.

use std::fmt;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest answer that is read into memory, in bytes. LXD's largest, a full list of images, is below 1 MiB.
const LONGEST_ANSWER: u64 = 8 << 20;

/// Longest line of a head, in bytes.
const LONGEST_LINE: u64 = 16 << 10;

/// Most lines in a head.
const MOST_HEADERS: usize = 100;

/// Most interim answers before the real one.
const MOST_INTERIM: usize = 16;

pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Path and query, already percent-encoded.
    pub(super) target: &'a str,
    /// More header lines, without `Host`, `Content-Length` and `Connection`.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// How long the whole exchange may take, however slowly the bytes come.
    pub(super) patience: Duration,
}

/// The body of a request, with its length in bytes.
pub(super) struct Body<'a> {
    pub(super) length: u64,
    pub(super) bytes: &'a mut dyn Read,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The entity tag (RFC 9110, section 8.8.3), which names this state of what was asked for; empty if there is none.
    pub(super) tag: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// Connecting, writing or reading failed.
    Io(&'static str, io::Error),
    /// The answer is not HTTP as RFC 9112 defines it.
    Malformed(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(doing, error) => write!(f, "{doing}: {error}"),
            Self::Malformed(what) => write!(f, "reading its answer: {what}"),
        }
    }
}

/// Send one request and read its answer.
pub(super) fn exchange(
    socket: &Path,
    request: &Request<'_>,
    body: Option<Body<'_>>,
) -> Result<Answer, Broken> {
    let stream = UnixStream::connect(socket).map_err(|error| Broken::Io("connecting", error))?;
    let mut timed = Timed {
        stream,
        begun: Instant::now(),
        patience: request.patience,
    };
    let sent = write_request(&mut timed, request, body);
    let mut from = BufReader::new(timed);
    match sent {
        Ok(()) => read_answer(&mut from),
        // A daemon may refuse a request before its end and close the connection (RFC 9112, section 9.5). Its answer
        // says why, while a broken pipe does not. An answer of success to half a request is not believed.
        Err(error) if hung_up(&error) => match read_answer(&mut from) {
            Ok(answer) if answer.status >= 400 => Ok(answer),
            _ => Err(Broken::Io("sending the request", error)),
        },
        Err(error) => Err(Broken::Io("sending the request", error)),
    }
}

fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// A connection with a limit for the whole exchange: a timeout of the socket alone would restart with each byte.
struct Timed {
    stream: UnixStream,
    begun: Instant,
    patience: Duration,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.patience.checked_sub(self.begun.elapsed());
        left.filter(|left| !left.is_zero()).ok_or_else(|| {
            let late = format!("it was not done after {} s", self.patience.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, late)
        })
    }
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buf)
    }
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn write_request(stream: &mut Timed, request: &Request<'_>, body: Option<Body<'_>>) -> io::Result<()> {
    // The head and a small body are sent together, so that the daemon cannot close the connection between them.
    let mut stream = BufWriter::new(stream);
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: daemon\r\nConnection: close\r\n",
        request.method, request.target
    );
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match &body {
        Some(body) => head.push_str(&format!("Content-Length: {}\r\n\r\n", body.length)),
        None => head.push_str("\r\n"),
    }
    stream.write_all(head.as_bytes())?;
    if let Some(body) = body {
        let sent = io::copy(&mut body.bytes.take(body.length), &mut stream)?;
        if sent != body.length {
            let short = format!("the file ended after {sent} of {} bytes", body.length);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, short));
        }
    }
    stream.flush()
}

fn read_answer(from: &mut impl BufRead) -> Result<Answer, Broken> {
    let mut head = read_head(from)?;
    // 1xx are interim answers; the real one follows (RFC 9110, section 15.2).
    for _ in 0..MOST_INTERIM {
        if head.status >= 200 {
            break;
        }
        head = read_head(from)?;
    }
    let status = head.status;
    if status < 200 {
        return Err(Broken::Malformed(format!(
            "more than {MOST_INTERIM} interim answers"
        )));
    }
    let body = match head.framing {
        _ if status == 204 || status == 304 => Vec::new(),
        Framing::Length(length) => read_exactly(from, length)?,
        Framing::Chunked => read_chunks(from)?,
        Framing::UntilClose => read_bounded(from)?,
    };
    Ok(Answer {
        status,
        body,
        tag: head.tag,
    })
}

struct Head {
    status: u16,
    framing: Framing,
    tag: String,
}

/// How the end of a body is found (RFC 9112, section 6.3).
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

fn read_head(from: &mut impl BufRead) -> Result<Head, Broken> {
    let first = read_line(from)?;
    let mut words = first.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|status| status.parse::<u16>().ok());
    let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
        return Err(Broken::Malformed(format!("{first:?} is not a status line")));
    };
    let mut framing = Framing::UntilClose;
    let mut tag = String::new();
    for _ in 0..MOST_HEADERS {
        let line = read_line(from)?;
        if line.is_empty() {
            return Ok(Head { status, framing, tag });
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(Broken::Malformed(format!("{:?} is not a header", cut(&line))));
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(Broken::Malformed(format!(
                    "transfer encoding {:?} is not known",
                    cut(value)
                )));
            }
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && !matches!(framing, Framing::Chunked) {
            let length = value
                .parse()
                .map_err(|_| Broken::Malformed(format!("content length {:?}", cut(value))))?;
            framing = Framing::Length(length);
        } else if name.eq_ignore_ascii_case("etag") {
            tag = value.into();
        }
    }
    Err(Broken::Malformed(format!("more than {MOST_HEADERS} headers")))
}

/// The beginning of a text that the daemon wrote, short enough for a message.
fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn read_line(from: &mut impl BufRead) -> Result<String, Broken> {
    let mut line = Vec::new();
    let read = from.take(LONGEST_LINE).read_until(b'\n', &mut line);
    read.map_err(|error| Broken::Io("reading its answer", error))?;
    if line.pop() != Some(b'\n') {
        return Err(Broken::Malformed("the head ends in the middle of a line".into()));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| Broken::Malformed("a header is not UTF-8".into()))
}

fn read_exactly(from: &mut impl BufRead, length: u64) -> Result<Vec<u8>, Broken> {
    if length > LONGEST_ANSWER {
        return Err(Broken::Malformed(format!(
            "{length} bytes are more than the limit of {LONGEST_ANSWER}"
        )));
    }
    let mut body = Vec::new();
    from.take(length)
        .read_to_end(&mut body)
        .map_err(|error| Broken::Io("reading its answer", error))?;
    if u64::try_from(body.len()) != Ok(length) {
        return Err(Broken::Malformed(format!(
            "the body ended after {} of {length} bytes",
            body.len()
        )));
    }
    Ok(body)
}

fn read_chunks(from: &mut impl BufRead) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    loop {
        let line = read_line(from)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16)
            .map_err(|_| Broken::Malformed(format!("{:?} is not the length of a chunk", cut(&line))))?;
        if length == 0 {
            // Trailers have no meaning here; skip them up to the empty line.
            for _ in 0..MOST_HEADERS {
                if read_line(from)?.is_empty() {
                    return Ok(body);
                }
            }
            return Err(Broken::Malformed(format!("more than {MOST_HEADERS} trailers")));
        }
        let whole = u64::try_from(body.len()).map_or(u64::MAX, |held| held.saturating_add(length));
        if whole > LONGEST_ANSWER {
            return Err(Broken::Malformed(format!(
                "more than the limit of {LONGEST_ANSWER} bytes"
            )));
        }
        body.extend(read_exactly(from, length)?);
        if !read_line(from)?.is_empty() {
            return Err(Broken::Malformed("a chunk is longer than it says".into()));
        }
    }
}

fn read_bounded(from: &mut impl BufRead) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    let limit = LONGEST_ANSWER.saturating_add(1);
    let read = from
        .take(limit)
        .read_to_end(&mut body)
        .map_err(|error| Broken::Io("reading its answer", error))?;
    if u64::try_from(read).map_or(true, |read| read >= limit) {
        return Err(Broken::Malformed(format!(
            "more than the limit of {LONGEST_ANSWER} bytes"
        )));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(u16, &str), &str>) {
        let got = read_answer(&mut BufReader::new(text.as_bytes()));
        let got = got.map(|answer| (answer.status, String::from_utf8(answer.body).unwrap()));
        let got = got.map_err(|broken| broken.to_string());
        let expect = expect.map(|(status, body)| (status, body.to_owned()));
        assert_eq!(
            got,
            expect.map_err(|why| format!("reading its answer: {why}")),
            "{text:?}"
        );
    }

    #[test]
    fn an_answer_ends_where_its_framing_says() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore",
            Ok((200, "ok")),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\n\r\n",
            Ok((200, "ok!")),
        );
        check("HTTP/1.0 404 Not Found\r\n\r\ngone", Ok((404, "gone")));
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
            Ok((204, "")),
        );
    }

    #[test]
    fn what_is_cut_or_wrong_is_not_an_answer() {
        check("", Err("the head ends in the middle of a line"));
        check(
            "HTTP/1.1 200 OK\r\nContent-Le",
            Err("the head ends in the middle of a line"),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
            Err("the body ended after 2 of 9 bytes"),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok",
            Err("content length \"-1\""),
        );
        check("SSH-2.0-x\r\n\r\n", Err("\"SSH-2.0-x\" is not a status line"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Err("\"zz\" is not the length of a chunk"),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n",
            Err("a chunk is longer than it says"),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            Err("99999999999 bytes are more than the limit of 8388608"),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            Err("more than the limit of 8388608 bytes"),
        );
    }
}
