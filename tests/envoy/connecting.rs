//! `limits.connecting`: opened, and not yet answered by the upstream.

use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::harness::{
    Bootstrap, Conduct, Envoy, Fate, TCP, Upstream, connect, fate, knock, knocks, until,
};

const RULE: &str = "service";
const LIMIT: &str = r#"{"connecting": 5}"#;

/// Connects hang as long as they like.
fn before(upstream: SocketAddr) -> Bootstrap {
    let bootstrap = TCP.before(upstream).limits(LIMIT).hold_off();
    bootstrap.set("connect_timeout: 2s", "connect_timeout: 60s")
}

/// Twenty come; the fifteen that are refused are waited for.
fn five_of_twenty(envoy: &Envoy) -> Vec<TcpStream> {
    let clients = knocks(envoy.listener(TCP.listener), 20);
    let metrics = envoy.until_rule(RULE, "tidegate_arrivals_total", 20.0);
    assert_eq!(metrics.rule(RULE, "tidegate_admitted_total"), 5.0);
    assert_eq!(metrics.rejected(RULE, "connecting_limit"), 15.0);
    clients
}

#[test]
fn with_inspection_a_connection_counts_until_the_upstream_says_something() {
    let upstream = Upstream::start(Conduct::Mute);
    let envoy = Envoy::start(&before(upstream.address).inspecting(), 2);
    let clients = five_of_twenty(&envoy);
    upstream.until_open(5);
    upstream.release();
    let served = clients
        .into_iter()
        .map(|mut client| (fate(&mut client), client))
        .filter(|(fate, _)| *fate == Fate::Served)
        .collect::<Vec<_>>();
    assert_eq!(served.len(), 5);
    // Those five are open still, and in nobody's way.
    until_served(&envoy);
    drop(served);
    envoy.until_quiet(RULE, 21);
}

#[test]
fn without_inspection_a_connection_counts_until_it_is_connected() {
    // Nobody accepts; when the backlog is full the kernel takes no more either.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("bound");
    socket.listen(0).expect("listens");
    let address = socket.local_addr().expect("an address");
    let address = address.as_socket().expect("an address of IPv4");
    let blocker = connect(address);

    let envoy = Envoy::start(&before(address), 2);
    let clients = five_of_twenty(&envoy);
    // When there is room, the connects go on: the kernel tries again after a second.
    socket.set_nonblocking(true).expect("set");
    let mut taken: Vec<_> = (0..6).map(|_| until(|| accepted(&socket))).collect();
    // They have said nothing, and are in nobody's way.
    let service = envoy.listener(TCP.listener);
    let mut next = Vec::new();
    until(|| {
        next.push(knock(service, "next"));
        taken.push(accepted(&socket)?);
        Ok(())
    });
    let arrivals = 20 + next.len();
    drop((clients, next, taken, blocker, socket));
    let metrics = envoy.until_quiet(RULE, arrivals);
    assert!(metrics.rule(RULE, "tidegate_admitted_total") > 5.0);
}

/// One that has come.
fn accepted(socket: &Socket) -> Result<Socket, String> {
    let (accepted, _) = socket.accept().map_err(|error| error.to_string())?;
    Ok(accepted)
}

/// Comes until it is served.
fn until_served(envoy: &Envoy) -> TcpStream {
    let service = envoy.listener(TCP.listener);
    until(|| {
        let mut client = knock(service, "next");
        match fate(&mut client) {
            Fate::Served => Ok(client),
            Fate::Refused => Err("refused".to_owned()),
        }
    })
}

#[test]
fn without_inspection_an_upstream_that_says_nothing_is_in_nobodys_way() {
    let upstream = Upstream::start(Conduct::Mute);
    let envoy = Envoy::start(&before(upstream.address), 2);
    let service = envoy.listener(TCP.listener);
    let mut open = Vec::new();
    until(|| {
        open.push(knock(service, "hello"));
        let count = upstream.seen().open;
        (count >= 20)
            .then_some(())
            .ok_or_else(|| format!("only {count} are open"))
    });
    drop(open);
    let metrics = envoy.until_quiet(RULE, 20);
    assert!(metrics.rule(RULE, "tidegate_admitted_total") >= 20.0);
}
