//! Chance that repeats itself: the same seed gives the same draws on every machine.

/// Xoshiro256++ of Blackman and Vigna, seeded by SplitMix64.
///
/// For simulations, not for secrets. Cost: some 1 ns a draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random([u64; 4]);

impl Random {
    /// The same seed gives the same draws.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(core::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }))
    }

    /// Any of the 2⁶⁴ numbers.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let drawn = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        drawn
    }

    /// From 0, included, to 1, excluded.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `end`; 0 when that is 0. Biased by less than `end` ÷ 2⁶⁴.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A standard normal number, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let r = x * x + y * y;
            if r > 0.0 && r < 1.0 {
                return x * (-2.0 * libm::log(r) / r).sqrt();
            }
        }
    }

    /// A gamma number of mean 1 and of variance `1 / shape`; Marsaglia and Tsang 2000.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::pow(1.0 - self.unit(), 1.0 / shape.max(1e-3));
            return self.gamma(shape + 1.0) * (shape + 1.0) / shape.max(1e-3) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            let v = v * v * v;
            if v > 0.0 {
                let u = 1.0 - self.unit();
                if libm::log(u) < 0.5 * x * x + d * (1.0 - v + libm::log(v)) {
                    return d * v / shape;
                }
            }
        }
    }

    /// A Poisson number.
    ///
    /// Below a mean of 10 by multiplication (Knuth), above by transformed rejection (Hörmann's
    /// PTRS, 1993). A mean that is not a positive number gives 0; the largest is 2³¹.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        if mean.is_nan() || mean <= 0.0 {
            return 0;
        }
        if mean < 10.0 {
            let least = libm::exp(-mean);
            let (mut count, mut product) = (0, self.unit());
            while product > least {
                count += 1;
                product *= self.unit();
            }
            return count;
        }
        let mean = mean.min(2_147_483_648.0);
        let root = mean.sqrt();
        let b = 0.931 + 2.53 * root;
        let a = -0.059 + 0.024_83 * b;
        let inverse = 1.1239 + 1.1328 / (b - 3.4);
        let quick = 0.9277 - 3.6224 / (b - 2.0);
        loop {
            let u = self.unit() - 0.5;
            let v = self.unit();
            let us = 0.5 - u.abs();
            let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
            if us >= 0.07 && v <= quick {
                return k as u32;
            }
            if k < 0.0 || (us < 0.013 && v > us) {
                continue;
            }
            let left = libm::log(v * inverse / (a / (us * us) + b));
            if left <= k * libm::log(mean) - mean - libm::lgamma(k + 1.0) {
                return k as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let draws: Vec<f64> = (0..200_000).map(|_| draw()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
        (mean, variance / draws.len() as f64)
    }

    #[test]
    fn poisson_numbers_have_a_variance_of_their_mean() {
        let mut random = Random::new(1);
        for wanted in [0.1, 2.0, 9.9, 10.1, 50.0, 2_000.0] {
            let (mean, variance) = moments(|| f64::from(random.poisson(wanted)));
            assert!((mean / wanted - 1.0).abs() < 0.02, "{wanted}: {mean}");
            assert!(
                (variance / wanted - 1.0).abs() < 0.03,
                "{wanted}: {variance}"
            );
        }
        assert_eq!(random.poisson(f64::NAN), 0);
        assert_eq!(random.poisson(-1.0), 0);
    }

    #[test]
    fn gamma_numbers_have_mean_1_and_the_variance_asked_for() {
        let mut random = Random::new(2);
        for shape in [0.5, 1.0, 25.0, 100.0] {
            let (mean, variance) = moments(|| random.gamma(shape));
            assert!((mean - 1.0).abs() < 0.02, "{shape}: {mean}");
            assert!((variance * shape - 1.0).abs() < 0.05, "{shape}: {variance}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_draws() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        assert!((0..1_000).all(|_| a.bits() == b.bits()));
    }
}
