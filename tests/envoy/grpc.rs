//! What a refused gRPC call reads.

use tokio::net::TcpStream;

use crate::harness::{
    Conduct, Envoy, HTTP, Upstream, block_on,
    http::{answer, ask},
};

#[test]
fn a_refused_grpc_call_reads_unavailable_and_when_to_come_back() {
    let upstream = Upstream::start(Conduct::Http);
    let bootstrap = HTTP
        .before(upstream.address)
        .limits(r#"{"inflight": 1}"#)
        .hold_off();
    let envoy = Envoy::start(&bootstrap, 1);
    let api = envoy.listener(HTTP.listener);
    let first = ask(api, "/first");
    upstream.until_open(1);

    let (head, trailers_only) = block_on(async {
        let stream = TcpStream::connect(api).await.expect("connected");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.expect("ready");
        let request = http::Request::post("http://api.example/orders.Orders/Place")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let (response, _) = client.send_request(request, true).expect("sent");
        let (head, body) = response.await.expect("a response").into_parts();
        drop(client);
        let trailers_only = body.is_end_stream();
        drop(body);
        connection.await.expect("no panic").expect("a good end");
        (head, trailers_only)
    });

    let header = |name: &str| {
        head.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    };
    assert_eq!(head.status, 200);
    assert!(trailers_only, "the status comes with the headers");
    assert_eq!(header("content-type"), Some("application/grpc"));
    assert_eq!(header("grpc-status"), Some("14"));
    let message = header("grpc-message").expect("a message");
    assert!(
        message.contains("limit%20reached") || message.contains("limit reached"),
        "{message}"
    );
    assert_eq!(header("x-tidegate-reason"), Some("inflight_limit"));
    let pushback = header("grpc-retry-pushback-ms").expect("a time");
    let pushback: u32 = pushback.parse().expect("a number");
    assert!((2000..=3000).contains(&pushback), "{pushback}");

    upstream.release();
    assert_eq!(answer(first).status, 200);
    envoy.until_quiet("api", 2);
}
