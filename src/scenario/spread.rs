//! From coarse counts to laps of 100 ms.

use super::Random;

/// Spreads `count` arrivals over `out` as a Poisson process would have, given that it had so many.
///
/// Exact: each lap's share is that of a multinomial with equal chances, and nothing is lost. Most
/// come as independent Poisson numbers of a little less than the mean, the rest one by one. Cost:
/// `out.len()` Poisson numbers and some `4·sqrt(count)` draws.
pub fn spread(random: &mut Random, count: u64, out: &mut [u32]) {
    out.fill(0);
    let laps = out.len() as u64;
    if laps == 0 {
        return;
    }
    let mut left = count;
    if count > 8 * laps {
        let mean = (count as f64 - 4.0 * (count as f64).sqrt()).max(0.0) / laps as f64;
        for lap in out.iter_mut() {
            *lap = random.poisson(mean);
        }
        let drawn: u64 = out.iter().map(|lap| u64::from(*lap)).sum();
        if drawn <= count {
            left = count - drawn;
        } else {
            // One in 30,000: the whole count one by one.
            out.fill(0);
        }
    }
    for _ in 0..left {
        if let Some(lap) = out.get_mut(random.below(laps) as usize) {
            *lap = lap.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_the_laps_are_as_uneven_as_poisson() {
        let mut random = Random::new(3);
        for count in [0, 5, 600, 30_000, 600_000] {
            let mut laps = [0_u32; 600];
            let mut squares = 0.0;
            for _ in 0..200 {
                spread(&mut random, count, &mut laps);
                assert_eq!(laps.iter().map(|lap| u64::from(*lap)).sum::<u64>(), count);
                let mean = count as f64 / 600.0;
                squares += laps
                    .iter()
                    .map(|lap| (f64::from(*lap) - mean) * (f64::from(*lap) - mean))
                    .sum::<f64>();
            }
            let fano = squares / 120_000.0 / (count as f64 / 600.0).max(1e-9);
            assert!(count == 0 || (fano - 1.0).abs() < 0.03, "{count}: {fano}");
        }
        spread(&mut random, 9, &mut []);
    }
}
