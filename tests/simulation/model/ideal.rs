//! How many could have been served.

use std::{collections::VecDeque, time::Duration};

/// A lap in which the upstream can do so much.
pub const LAP: Duration = Duration::from_millis(100);

/// How many a guard would serve that wastes nothing and knows all: the oldest first of those that
/// still want to be.
///
/// `wishes` are from when until when somebody wants something, in the order in which they begin;
/// `capacity` is how many the upstream can do in a lap that ends then. From the first time to the
/// second.
pub fn served(
    wishes: &[(Duration, Duration)],
    capacity: impl Fn(Duration) -> f64,
    from: Duration,
    until: Duration,
) -> f64 {
    let mut coming = wishes.iter().peekable();
    let mut waiting: VecDeque<Duration> = VecDeque::new();
    let (mut credit, mut count) = (0.0, 0.0);
    let mut lap_ends = LAP;
    while lap_ends <= until {
        while let Some((_, gone)) = coming.next_if(|(began, _)| *began <= lap_ends) {
            waiting.push_back(*gone);
        }
        waiting.retain(|gone| *gone > lap_ends - LAP);
        credit += capacity(lap_ends);
        while credit >= 1.0 && waiting.pop_front().is_some() {
            credit -= 1.0;
            count += f64::from(u8::from(lap_ends > from));
        }
        // What was not used is lost.
        credit = credit.min(1.0);
        lap_ends += LAP;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_served_in_time_is_lost() {
        let at = Duration::from_millis;
        // Ten at once who wait for a second; one a lap is possible, and none in the beginning.
        let wishes = [(at(0), at(1000)); 10];
        let capacity = |now| if now > at(500) { 1.0 } else { 0.0 };
        let all = served(&wishes, capacity, at(0), at(5000));
        assert_eq!(all, 5.0);
        assert_eq!(served(&wishes, capacity, at(800), at(5000)), 2.0);
    }
}
