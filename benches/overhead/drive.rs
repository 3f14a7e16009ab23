//! The load: the same few clients, over and over.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use crate::harness::{connect, load::connect_from, upstream::queue_many};

/// Open at once.
const AT_ONCE: usize = 16;

/// Clients that keep their connections and send a request on each, then read all the answers.
pub struct Requests {
    clients: Vec<(TcpStream, Vec<u8>)>,
    answer: Vec<u8>,
    users: usize,
    next: usize,
}

/// What a client sends; the digits are the user's.
const REQUEST: &str = "GET /v1/orders HTTP/1.1\r\nhost: api.example\r\nx-user: u0000000\r\n\r\n";
const DIGITS: usize = 7;

impl Requests {
    /// Connects them, and learns from the first answer how long an answer is. So many users take
    /// turns.
    pub fn to(address: SocketAddr, users: usize) -> Self {
        let mut clients: Vec<_> = (0..AT_ONCE)
            .map(|_| (connect(address), REQUEST.as_bytes().to_vec()))
            .collect();
        let mut answer = Vec::new();
        for (stream, request) in &mut clients {
            stream.write_all(request).expect("sent");
            answer.clear();
            while !answer.ends_with(b"\r\n\r\nhello") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("an answer");
                answer.extend_from_slice(&byte);
            }
        }
        Self {
            clients,
            answer,
            users,
            next: 0,
        }
    }

    /// How many were made at the beginning.
    pub fn first(&self) -> usize {
        self.clients.len()
    }

    /// Makes at least so many requests; how many.
    pub fn make(&mut self, count: usize) -> usize {
        let batches = count.div_ceil(AT_ONCE);
        for _ in 0..batches {
            for (stream, request) in &mut self.clients {
                self.next = (self.next + 1) % self.users;
                sign(request, self.next);
                stream.write_all(request).expect("sent");
            }
            for (stream, _) in &mut self.clients {
                stream.read_exact(&mut self.answer).expect("an answer");
                assert!(
                    self.answer.starts_with(b"HTTP/1.1 200 ")
                        && self.answer.ends_with(b"\r\n\r\nhello"),
                    "{}",
                    String::from_utf8_lossy(&self.answer)
                );
            }
        }
        batches * AT_ONCE
    }
}

/// Writes the user into a request.
fn sign(request: &mut [u8], user: usize) {
    // Before the two ends of lines.
    let end = request.len() - 4;
    let digits = format!("{user:0DIGITS$}");
    request[end - DIGITS..end].copy_from_slice(digits.as_bytes());
}

/// Connects, says something and hears it again from an upstream that sends it back, and leaves; so
/// often at least, and how often. Each comes from the next address.
pub fn connections(address: SocketAddr, count: usize, mut from: impl FnMut() -> Ipv4Addr) -> usize {
    let batches = count.div_ceil(AT_ONCE);
    for _ in 0..batches {
        let mut clients: Vec<TcpStream> = (0..AT_ONCE)
            .map(|_| connect_from(from(), address))
            .collect();
        for client in &mut clients {
            client.write_all(b"x").expect("sent");
        }
        for client in &mut clients {
            client.read_exact(&mut [0]).expect("an answer");
        }
    }
    batches * AT_ONCE
}

/// An upstream that sends as many bytes as it is asked for, in eight bytes, until it is not asked
/// any more.
pub fn tap() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    queue_many(&listener);
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let bytes: Arc<[u8]> = vec![b'x'; 1 << 16].into();
        for mut stream in listener.incoming().flatten() {
            let bytes = Arc::clone(&bytes);
            thread::spawn(move || {
                let mut wanted = [0; 8];
                while stream.read_exact(&mut wanted).is_ok() {
                    let mut left = u64::from_le_bytes(wanted);
                    while left > 0 {
                        let size = left.min(bytes.len() as u64);
                        if stream.write_all(&bytes[..size as usize]).is_err() {
                            return;
                        }
                        left -= size;
                    }
                }
            });
        }
    });
    address
}

/// Draws so many bytes over one connection.
pub fn draw(stream: &mut TcpStream, bytes: u64) {
    stream.write_all(&bytes.to_le_bytes()).expect("sent");
    let mut buffer = vec![0; 1 << 18];
    let mut left = bytes;
    while left > 0 {
        let size = stream.read(&mut buffer).expect("bytes") as u64;
        assert!(size > 0, "it ended early");
        left -= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_by_its_user() {
        let mut request = REQUEST.as_bytes().to_vec();
        sign(&mut request, 12_345);
        let signed = REQUEST.replace("u0000000", "u0012345");
        assert_eq!(String::from_utf8(request).unwrap(), signed);
    }

    #[test]
    fn the_tap_gives_what_it_is_asked_for_as_often_as_it_is() {
        let mut stream = connect(tap());
        draw(&mut stream, 100_001);
        draw(&mut stream, 7);
    }
}
