//! The load: the same few clients, over and over.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use crate::harness::{connect, upstream::queue_many};

/// Open at once.
const AT_ONCE: usize = 16;

/// Clients that keep their connections and send a request on each, then read all the answers.
pub struct Requests {
    clients: Vec<(TcpStream, Vec<u8>)>,
    answer: Vec<u8>,
}

impl Requests {
    /// Connects them, and learns from the first answer how long an answer is.
    pub fn to(address: SocketAddr) -> Self {
        let clients = (0..AT_ONCE).map(|user| {
            let request =
                format!("GET /v1/orders HTTP/1.1\r\nhost: api.example\r\nx-user: u{user}\r\n\r\n");
            (connect(address), request.into_bytes())
        });
        let mut clients: Vec<_> = clients.collect();
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
        Self { clients, answer }
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

/// Connects, says something and hears it again from an upstream that sends it back, and leaves; so
/// often at least, and how often.
pub fn connections(address: SocketAddr, count: usize) -> usize {
    let batches = count.div_ceil(AT_ONCE);
    for _ in 0..batches {
        let mut clients: Vec<TcpStream> = (0..AT_ONCE).map(|_| connect(address)).collect();
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
    fn the_tap_gives_what_it_is_asked_for_as_often_as_it_is() {
        let mut stream = connect(tap());
        draw(&mut stream, 100_001);
        draw(&mut stream, 7);
    }
}
