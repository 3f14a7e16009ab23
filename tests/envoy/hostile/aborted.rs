//! Requests that are given up while the upstream works for them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, task::JoinSet, time::sleep};

use super::parts::{
    crowd::{Stage, connect, words},
    fickle::{Fickle, Mood, Speaks},
    stand::Door,
    vices::Client,
};
use crate::harness::{Envoy, HTTP, block_on};

#[test]
fn a_place_of_a_request_that_is_given_up_is_free_only_when_the_upstream_is_told() {
    const CLIENTS: usize = 60;
    let upstream = Fickle::start(Speaks::Http, Stage::free());
    upstream.be(Mood::Hangs);
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 4}"#)
        .with(r#""key": "none""#);
    let envoy = Envoy::start(&bootstrap, 8);
    let to = envoy.listener(HTTP.listener);
    let (until, next) = (
        Instant::now() + Duration::from_secs(10),
        Arc::<AtomicU32>::default(),
    );
    block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(give_up_again_and_again(to, until, Arc::clone(&next)));
        }
        while let Some(client) = clients.join_next().await {
            client.expect("no panic");
        }
    });
    envoy.until_quiet("api", 1);
    assert_eq!(upstream.peak(), 4);
}

async fn give_up_again_and_again(to: SocketAddr, until: Instant, next: Arc<AtomicU32>) {
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let from = Client::new(number).address();
        if let Ok(mut stream) = connect(from, to).await {
            stream.write_all(&words(Door::Api, "hasty")).await.ok();
            sleep(Duration::from_millis(u64::from(number % 8))).await;
        }
    }
}
