//! Durations as an operator writes them: `500ms`, `1.5s`, `2m`.

use alloc::{format, string::String};
use core::time::Duration;

/// The units, longest first, in nanoseconds.
const UNITS: [(&str, u64); 5] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Reads a decimal number and a unit: `us`, `ms`, `s`, `m` or `h`. `None` for anything else.
///
/// Exact: what is finer than a nanosecond, longer than 584 years, negative, compound (`1m30s`),
/// spaced or without a unit is not read.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.')?;
    let (number, unit) = text.split_at_checked(end)?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let mut total = whole.parse::<u64>().ok()?.checked_mul(*nanos)?;
    let mut digit_is_worth = *nanos;
    for digit in fraction.chars() {
        let digit = u64::from(digit.to_digit(10)?);
        if digit != 0 && (digit_is_worth == 0 || digit_is_worth % 10 != 0) {
            return None;
        }
        digit_is_worth /= 10;
        total = total.checked_add(digit.checked_mul(digit_is_worth)?)?;
    }
    Some(Duration::from_nanos(total))
}

/// The shortest way to write a duration; what is finer than a microsecond is cut off.
pub(super) fn text(span: Duration) -> String {
    let nanos = span.as_nanos();
    UNITS
        .iter()
        .find(|(_, unit)| nanos >= u128::from(*unit) && nanos.is_multiple_of(u128::from(*unit)))
        .map_or_else(
            || match span.as_micros() {
                0 => String::from("0s"),
                micros => format!("{micros}us"),
            },
            |(name, unit)| format!("{}{name}", nanos / u128::from(*unit)),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    // On wasm32 they run under Node.
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, nanos) in [
            ("0s", 0),
            ("250us", 250_000),
            ("500ms", 500_000_000),
            ("1.5s", 1_500_000_000),
            ("0.000000001s", 1),
            ("1.50000000000000000000s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("0.1h", 360_000_000_000),
            ("007s", 7_000_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for text in [
            "",
            "s",
            ".",
            "5",
            "1.5",
            ".5s",
            "5.s",
            "1.2.3s",
            "-1s",
            "+1s",
            "1 s",
            " 1s",
            "1s ",
            "1m30s",
            "1e3s",
            "1S",
            "1sec",
            "1d",
            "1ns",
            "0.0000000001s",
            "0.00000000001s",
            "0.0001us",
            "99999999999999999999s",
            "18446744073709551615h",
            "١s",
            "1µs",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_unit_that_fits_is_written() {
        for written in ["0s", "1us", "1500ms", "90s", "2m", "1h"] {
            assert_eq!(text(parse(written).unwrap()), written);
        }
        assert_eq!(text(Duration::from_nanos(1)), "0s");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".*|[0-9.]{0,30}[a-z]{0,3}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_written_is_read_back(micros in 0..u64::MAX / 1000) {
            let span = Duration::from_micros(micros);
            prop_assert_eq!(parse(&text(span)), Some(span));
        }
    }
}
