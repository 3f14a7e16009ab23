//! The log lines that programs read: one line of JSON each, whatever a client calls itself.

use arbitrary::{Result, Unstructured};
use tidegate::{
    engine::{Callers, Timestamp},
    event::{Caller, Event, Hundredths, Rfc3339, Tenths, announced},
};

/// The longest line: five callers with keys of 64 bytes, of which each may take five to write.
const MOST_BYTES: usize = 4096;

/// Callers arrive under the names in the bytes, and a surge of theirs is told.
pub fn run(data: &[u8]) {
    let _ = tell(&mut Unstructured::new(data));
}

fn tell(u: &mut Unstructured<'_>) -> Result<()> {
    let at = Timestamp::from_nanos(u.arbitrary()?);
    let mark = u.arbitrary()?;
    let numbers: [f64; 4] = u.arbitrary()?;
    let known = some_bytes(u)?;
    if let Some(new) = announced(known, mark, at) {
        assert!(new.len() <= 32 * 16 && new.len().is_multiple_of(16));
        assert_eq!(announced(&new, mark, at), None, "it is announced once");
    }
    let mut callers = Callers::new([1, 2]);
    for _ in 0..5 {
        callers.arrive(some_bytes(u)?);
    }
    let line = Event::SurgeStarted {
        rule: "a",
        at: Rfc3339(at),
        rate_per_s: Tenths(numbers[0]),
        baseline_per_s: Tenths(numbers[1]),
        ratio: Tenths(numbers[2]),
        inflight: u.arbitrary()?,
        inflight_limit: u.arbitrary()?,
        signal: "arrivals",
        spread: callers.spread().name(),
        // As the plugin writes them.
        callers: callers
            .by_excess()
            .into_iter()
            .map(|caller| Caller {
                key: caller.key.escape_ascii().map(char::from).collect(),
                rate_per_s: Tenths(caller.rate_per_s),
                baseline_per_s: Tenths(numbers[3]),
                share: Hundredths(caller.share),
            })
            .collect(),
    }
    .line();
    assert!(line.len() <= MOST_BYTES, "{} bytes", line.len());
    assert!(
        line.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
        "{line}"
    );
    let json = line.strip_prefix("tidegate_event ").expect("the mark");
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(json["event"], "surge_started");
    // The companion understands it, if its time is one that people write.
    if at < Timestamp::from_millis(4_000_000_000_000) {
        let lines = crate::explain::read::lines(line.as_bytes()).expect("a slice");
        assert_eq!((lines.events.len(), lines.malformed), (1, 0), "{line}");
    }
    Ok(())
}

fn some_bytes<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = usize::from(u.arbitrary::<u8>()?).min(u.len());
    u.bytes(length)
}
