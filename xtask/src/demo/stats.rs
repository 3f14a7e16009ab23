//! Envoy's statistics, as Prometheus would read them.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// So long may Envoy's administration take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the demo reads: the plugin's metrics and the connections to the database.
const FILTER: &str = "(tidegate_|cluster.postgres.upstream_cx_active)";

/// Lines of the Prometheus text format.
pub struct Stats(String);

impl Stats {
    /// What Envoy counts now.
    pub async fn read(admin: SocketAddr) -> Result<Self> {
        let filter = FILTER.replace('|', "%7C");
        get(admin, &format!("/stats/prometheus?filter={filter}"))
            .await
            .map(Self)
    }

    /// The sum of a metric over all its labels; none when nobody has defined it.
    pub fn sum(&self, metric: &str) -> Option<u64> {
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(metric)?;
            let value = match rest.strip_prefix('{') {
                // A label may hold spaces and braces, a value holds none.
                Some(labels) => labels.rsplit_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.trim().parse::<f64>().ok()
        });
        values
            .map(|value| value as u64)
            .fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
    }
}

/// The body of a page of Envoy's administration.
pub async fn get(admin: SocketAddr, path: &str) -> Result<String> {
    let answer = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        std::io::Result::Ok(bytes)
    };
    let bytes = timeout(PATIENCE, answer)
        .await
        .with_context(|| format!("Envoy's administration does not answer to {path}"))?
        .with_context(|| format!("cannot ask Envoy's administration for {path}"))?;
    body(&bytes).with_context(|| format!("Envoy's administration refuses {path}"))
}

/// The body of an answer with the status 200.
fn body(answer: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{status}");
    }
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    if chunked {
        dechunked(body)
    } else {
        Ok(body.to_owned())
    }
}

/// Puts the chunks of a body together.
fn dechunked(mut body: &str) -> Result<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = body
            .split_once("\r\n")
            .context("the answer was cut short")?;
        let size = usize::from_str_radix(size.trim(), 16).context("not a chunked answer")?;
        if size == 0 {
            return Ok(whole);
        }
        whole += rest.get(..size).context("the answer was cut short")?;
        body = rest.get(size + 2..).context("the answer was cut short")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE tidegate_rejected_total counter\n\
        tidegate_rejected_total{reason=\"hold_timeout\",rule=\"a b\"} 4\n\
        tidegate_rejected_total{reason=\"hold_full\",rule=\"} 9\"} 3\n\
        tidegate_rejected_total_more{} 100\n\
        tidegate_inflight 40\n";

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let stats = Stats(TEXT.to_owned());
        assert_eq!(stats.sum("tidegate_rejected_total"), Some(7));
        assert_eq!(stats.sum("tidegate_inflight"), Some(40));
        assert_eq!(stats.sum("tidegate_waiting"), None);
    }

    #[test]
    fn chunks_are_put_together_wherever_they_are_cut() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\nc\r\n\r\n1\r\nx 12345\r\n0\r\n\r\n";
        assert_eq!(body(answer).unwrap(), "abc\r\n1\r\nx 12345");
    }

    #[test]
    fn an_answer_that_is_cut_short_or_refused_is_an_error() {
        let cut = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc";
        assert!(body(cut).is_err());
        let refused = body(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err();
        assert_eq!(refused.to_string(), "HTTP/1.1 503 Service Unavailable");
    }
}
