//! What clients say, and how they know that they are served.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// What is spoken, and what is wanted.
#[derive(Clone, Debug)]
pub enum Talk {
    /// Says a word, hears it again, and keeps the connection.
    Echo,
    /// Asks [`Service`](crate::service::Service) for work over TCP.
    Work,
    /// Asks it over HTTP for an answer that begins at once and ends later.
    HttpHold,
    /// Asks it over HTTP for work.
    HttpWork {
        /// What `x-user` says.
        user: String,
    },
    /// Logs in at PostgreSQL and keeps a transaction open.
    Postgres,
}

/// What a refused client was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusal {
    /// When it may come back.
    pub retry_after: Option<Duration>,
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Self::default()
    }
}

/// It takes no longer to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

impl Talk {
    /// Asks, and waits for the beginning of the answer.
    pub async fn ask(&self, stream: &mut TcpStream, stay: Duration) -> Result<(), Refusal> {
        let ms = stay.as_millis();
        match self {
            Self::Echo => first_byte(stream, "knock\n").await,
            Self::Work => first_byte(stream, &format!("work/{ms}\n")).await,
            Self::HttpHold => http(stream, &format!("/hold/{ms}"), "nobody").await,
            Self::HttpWork { user } => http(stream, &format!("/work/{ms}"), user).await,
            Self::Postgres => {
                stream.write_all(&startup()).await?;
                until_ready(stream).await?;
                query(stream, "BEGIN; SELECT 1").await
            }
        }
    }

    /// Keeps the connection for that time where that is the point of it, and closes it well.
    pub async fn stay_and_leave(&self, mut stream: TcpStream, stay: Duration) {
        match self {
            // Leaves earlier when the other side does.
            Self::Echo => drop(timeout(stay, stream.peek(&mut [0])).await),
            Self::HttpHold => {
                let end = async { while matches!(stream.read(&mut [0; 512]).await, Ok(1..)) {} };
                timeout(stay + GOODBYE, end).await.ok();
            }
            Self::Work | Self::HttpWork { .. } => {}
            Self::Postgres => {
                sleep(stay).await;
                let goodbye = async {
                    query(&mut stream, "COMMIT").await?;
                    stream
                        .write_all(b"X\0\0\0\x04")
                        .await
                        .map_err(Refusal::from)
                };
                timeout(GOODBYE, goodbye).await.ok();
            }
        }
    }
}

async fn first_byte(stream: &mut TcpStream, words: &str) -> Result<(), Refusal> {
    stream.write_all(words.as_bytes()).await?;
    match stream.read(&mut [0; 64]).await? {
        0 => Err(Refusal::default()),
        _ => Ok(()),
    }
}

/// Sends a request and reads the head of the response.
async fn http(stream: &mut TcpStream, path: &str, user: &str) -> Result<(), Refusal> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: api.example\r\nx-user: {user}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|part| part == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(Refusal::default());
        }
    }
    accepted(&String::from_utf8_lossy(&head))
}

/// Whether the head of a response is a good one.
fn accepted(head: &str) -> Result<(), Refusal> {
    if head.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let retry_after = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let seconds = value.trim().parse().ok().map(Duration::from_secs);
        seconds.filter(|_| name.eq_ignore_ascii_case("retry-after"))
    });
    Err(Refusal { retry_after })
}

/// The role that clients of PostgreSQL have; no superuser, for whom places are reserved.
pub const ROLE: &str = "client";

/// The first message of a client.
fn startup() -> Vec<u8> {
    let body = format!("\0\x03\0\0user\0{ROLE}\0database\0postgres\0\0");
    let mut message = length(body.len()).to_vec();
    message.extend_from_slice(body.as_bytes());
    message
}

/// The length of a message, which counts itself.
fn length(body: usize) -> [u8; 4] {
    u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes()
}

/// Sends a simple query and waits for its end.
async fn query(stream: &mut TcpStream, text: &str) -> Result<(), Refusal> {
    let mut message = vec![b'Q'];
    message.extend_from_slice(&length(text.len() + 1));
    message.extend_from_slice(text.as_bytes());
    message.push(0);
    stream.write_all(&message).await?;
    until_ready(stream).await
}

/// Reads messages until the server is ready for a query; an error of its is a refusal.
async fn until_ready(stream: &mut TcpStream) -> Result<(), Refusal> {
    const LONGEST: u32 = 64 * 1024;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        if kind == b'E' || !(4..=LONGEST).contains(&length) {
            return Err(Refusal::default());
        }
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await?;
        if kind == b'Z' {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_503_says_when_to_come_back() {
        assert!(accepted("HTTP/1.1 200 OK\r\nretry-after: 2\r\n\r\n").is_ok());
        let refusal = accepted("HTTP/1.1 503 No\r\nRetry-After: 3\r\n\r\n").unwrap_err();
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(3)));
        let refusal = accepted("HTTP/1.1 503 No\r\nserver: envoy\r\n\r\n").unwrap_err();
        assert_eq!(refusal.retry_after, None);
    }

    #[test]
    fn the_length_of_a_startup_message_counts_itself() {
        let message = startup();
        assert_eq!(message[..4], length(message.len() - 4));
        assert_eq!(message[4..8], [0, 3, 0, 0]);
    }
}
