//! A way to an upstream that can become slow.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{Bootstrap, tls::Authority};

/// The listener that [`Relay::slows_connects`] adds, to which the relay must lead.
pub const ENCRYPTED: &str = "encrypted";

/// A way for TLS to the real upstream, and a cluster that takes it: connected is who has shaken hands.
const WAY: &str = r#"  - name: encrypted
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - transport_socket: TRANSPORT
      filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: encrypted
          cluster: real
  clusters:
  - name: real
    load_assignment:
      cluster_name: real
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {socket_address: {address: 127.0.0.1, port_value: REAL}}
  - name: service
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
"#;

/// Passes on what comes, and the first word of the other side after a while.
pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    to: OnceLock<SocketAddr>,
    delay_ms: AtomicU64,
    stop: AtomicBool,
}

impl Relay {
    /// Starts one that leads nowhere yet.
    pub fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&theirs);
                if let Ok(stream) = stream {
                    thread::spawn(move || shared.pass(stream));
                }
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Leads to there from now on; once.
    pub fn lead_to(&self, to: SocketAddr) {
        self.shared.to.set(to).expect("it led nowhere");
    }

    /// With TLS on the way to the upstream, and the relay on the way to that: so a connect takes as
    /// long as the relay's delay. What is returned besides must live as long as Envoy.
    pub fn slows_connects(
        &self,
        before: Bootstrap,
        upstream: SocketAddr,
    ) -> (Bootstrap, Authority) {
        let authority = Authority::new();
        let server = authority.vouch("server", "DNS:service.example");
        let way = WAY
            .replace("TRANSPORT", &authority.listener(&server, false))
            .replace("REAL", &upstream.port().to_string());
        let bootstrap = before.set("  clusters:\n  - name: service\n", &way);
        (bootstrap, authority)
    }

    /// Keeps the first word of whoever comes from now on for so long.
    pub fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).expect("a short one");
        self.shared.delay_ms.store(millis, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whoever is gone is gone, on either side.
    fn pass(&self, near: TcpStream) {
        let delay = Duration::from_millis(self.delay_ms.load(Ordering::Relaxed));
        let to = *self.to.get().expect("it leads somewhere");
        let Ok(far) = TcpStream::connect(to) else {
            return;
        };
        thread::scope(|scope| {
            scope.spawn(|| copy(&near, &far, Duration::ZERO));
            copy(&far, &near, delay);
        });
    }
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, delay: Duration) {
    let mut bytes = [0; 16_384];
    let mut first = true;
    while let Ok(size @ 1..) = from.read(&mut bytes) {
        if core::mem::replace(&mut first, false) {
            thread::sleep(delay);
        }
        if to.write_all(&bytes[..size]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|end| end.is_ok()));
    }
}
