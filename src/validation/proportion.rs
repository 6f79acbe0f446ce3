//! Shares and how sure they are.

/// Two-sided 95 % quantile of the standard normal distribution.
const Z_95: f64 = 1.959_964;

/// 95 % interval of a share, `k` of `n`, 0-1 (Wilson, J. Am. Stat. Assoc. 1927): sound also for few
/// cases and for shares near 0 or 1. Of nothing, everything is possible.
#[must_use]
pub fn wilson(k: usize, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (k, n) = (k.min(n) as f64, n as f64);
    let (share, square) = (k / n, Z_95 * Z_95);
    let centre = (share + square / (2.0 * n)) / (1.0 + square / n);
    let half =
        Z_95 * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt() / (1.0 + square / n);
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::wilson;

    #[track_caller]
    fn check(k: usize, n: usize, low: f64, high: f64) {
        let got = wilson(k, n);
        assert!((got[0] - low).abs() < 5e-4, "{got:?}");
        assert!((got[1] - high).abs() < 5e-4, "{got:?}");
    }

    /// Newcombe, Statistics in Medicine 1998, table I: Wilson's score interval without correction.
    #[test]
    fn as_published() {
        check(81, 263, 0.2553, 0.3662);
        check(15, 148, 0.0624, 0.1605);
        check(0, 20, 0.0, 0.1611);
        check(1, 29, 0.0061, 0.1718);
        check(0, 0, 0.0, 1.0);
    }
}
