//! Many clients that come at once, and come again until the storm is over.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::Upstream;

/// A storm over TCP.
#[derive(Clone, Copy)]
pub struct Storm {
    pub clients: usize,
    /// How long who is served stays.
    pub stays: Duration,
    /// How long who was refused, or was served, is away.
    pub away: Duration,
    pub lasts: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub attempts: usize,
    pub served: usize,
    /// The mean of what was open at the upstream, from when `full` were for the first time.
    pub mean_open: f64,
}

impl Storm {
    /// Lets it rage; nobody is left when it is over.
    pub async fn rage(self, to: SocketAddr, upstream: &Upstream, full: usize) -> Outcome {
        let until = Instant::now() + self.lasts;
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            clients.spawn(self.client(to, until));
        }
        let (mut sum, mut samples, mut began) = (0, 0, false);
        while Instant::now() < until {
            let open = upstream.seen().open;
            began |= open >= full;
            if began {
                sum += open;
                samples += 1;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let mut outcome = Outcome {
            attempts: 0,
            served: 0,
            mean_open: sum as f64 / f64::from(samples.max(1)),
        };
        while let Some(client) = clients.join_next().await {
            let (attempts, served) = client.expect("no client panics");
            outcome.attempts += attempts;
            outcome.served += served;
        }
        outcome
    }

    /// How often one came, and how often it was served.
    async fn client(self, to: SocketAddr, until: Instant) -> (usize, usize) {
        let (mut attempts, mut served) = (0, 0);
        while Instant::now() < until {
            attempts += 1;
            if let Ok(mut stream) = TcpStream::connect(to).await
                && stream.write_all(b"storm").await.is_ok()
                && stream.read(&mut [0]).await.is_ok_and(|bytes| bytes > 0)
            {
                served += 1;
                sleep(self.stays).await;
            }
            sleep(self.away).await;
        }
        (attempts, served)
    }
}
