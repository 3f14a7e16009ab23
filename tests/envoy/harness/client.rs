//! Clients that speak plain TCP.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::PATIENCE;

/// What became of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The upstream answered.
    Served,
    /// The connection was closed without an answer.
    Refused,
}

/// A connection whose reads give up in time.
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Connects and says one thing. One that is refused meanwhile may not come to say it.
pub fn knock(to: SocketAddr, words: &str) -> TcpStream {
    let mut stream = connect(to);
    let _ = stream.write_all(words.as_bytes());
    stream
}

/// Many that knock, one after the other without waiting.
pub fn knocks(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| knock(to, "knock")).collect()
}

/// Waits for the first byte of an answer, or the end.
pub fn fate(stream: &mut TcpStream) -> Fate {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => Fate::Refused,
        Ok(_) => Fate::Served,
        Err(error) if gone(&error) => Fate::Refused,
        Err(error) => panic!("neither an answer nor an end: {error}"),
    }
}

/// The connections that are served, and how many were refused.
pub fn fates(streams: Vec<TcpStream>) -> (Vec<TcpStream>, usize) {
    let all = streams.len();
    let served: Vec<_> = streams
        .into_iter()
        .filter_map(|mut stream| (fate(&mut stream) == Fate::Served).then_some(stream))
        .collect();
    let refused = all - served.len();
    (served, refused)
}

/// Everything until the end, which may be abrupt.
pub fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if !gone(&error) => panic!("no end: {error}"),
        _ => bytes,
    }
}

/// Whether the other side closed with a reset.
fn gone(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}
