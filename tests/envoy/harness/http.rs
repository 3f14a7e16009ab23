//! The little of HTTP/1.1 that the tests need.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
};

use super::client::connect;

/// A response that has come as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends a request and does not wait for the response.
pub fn ask(to: SocketAddr, path: &str) -> TcpStream {
    let mut stream = connect(to);
    let request = format!("GET {path} HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

/// Waits for the response.
pub fn answer(stream: TcpStream) -> Response {
    try_answer(stream).expect("a response")
}

/// Sends a request with one more header, to be followed by others.
pub fn ask_with(mut stream: &TcpStream, path: &str, name: &str, value: &[u8]) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: api.example\r\n{name}: ");
    let request = [head.as_bytes(), value, b"\r\n\r\n"].concat();
    stream.write_all(&request).expect("sent");
}

/// Sends a request for each of these callers, over some connections, and waits for the responses.
pub fn ask_as(to: SocketAddr, callers: Range<u32>) {
    let mut streams: Vec<_> = (0..16).map(|_| BufReader::new(connect(to))).collect();
    let callers: Vec<u32> = callers.collect();
    for some in callers.chunks(streams.len()) {
        for (stream, caller) in streams.iter().zip(some) {
            let name = format!("c-{caller}");
            ask_with(stream.get_ref(), "/", "x-caller", name.as_bytes());
        }
        for (stream, _) in streams.iter_mut().zip(some) {
            let first = line(stream).expect("a response");
            assert_eq!(first, "HTTP/1.1 200 OK");
            while !line(stream).expect("a header").is_empty() {}
        }
    }
}

/// Orders something, and waits for the response.
pub fn post(to: SocketAddr, path: &str) -> Response {
    let mut stream = connect(to);
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: api.example\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    answer(stream)
}

/// Sends a request and waits for the response.
pub fn get(to: SocketAddr, path: &str) -> Response {
    answer(ask(to, path))
}

/// Like [`answer`]; a connection that ends early is an error.
pub fn try_answer(stream: impl Read) -> std::io::Result<Response> {
    let mut reader = BufReader::new(stream);
    let first = line(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status in {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = line(&mut reader)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        headers,
        body: String::new(),
    };
    let mut body = Vec::new();
    if response.header("transfer-encoding") == Some("chunked") {
        while let size @ 1.. = chunk_size(&line(&mut reader)?)? {
            reader.by_ref().take(size).read_to_end(&mut body)?;
            line(&mut reader)?;
        }
    } else if let Some(length) = response.header("content-length") {
        let length = length.parse().map_err(std::io::Error::other)?;
        reader.take(length).read_to_end(&mut body)?;
    } else {
        reader.read_to_end(&mut body)?;
    }
    response.body = String::from_utf8_lossy(&body).into_owned();
    Ok(response)
}

fn line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(std::io::Error::other(format!("it ends within {line:?}")));
    }
    Ok(line.trim_end().to_owned())
}

fn chunk_size(line: &str) -> std::io::Result<u64> {
    u64::from_str_radix(line, 16).map_err(std::io::Error::other)
}
