//! Minutes as people are told them.

/// Whole minutes that add up to the rounded sum (largest remainder).
#[must_use]
pub fn whole_minutes(minutes: &[f64]) -> Vec<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "minutes are bounded by the caps"
    )]
    let floor = |x: f64| x.floor() as i64;
    let total = floor(minutes.iter().sum::<f64>() + 0.5);
    let mut whole: Vec<i64> = minutes.iter().map(|m| floor(*m)).collect();
    let mut by_rest: Vec<usize> = (0..minutes.len()).collect();
    by_rest.sort_by(|a, b| minutes[*b].fract().total_cmp(&minutes[*a].fract()));
    let mut missing = total - whole.iter().sum::<i64>();
    for i in by_rest {
        if missing <= 0 {
            break;
        }
        whole[i] += 1;
        missing -= 1;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_minutes_add_up() {
        assert_eq!(whole_minutes(&[1.4, 1.4, 1.4]), vec![2, 1, 1]);
        assert_eq!(whole_minutes(&[0.5]), vec![1]);
        assert_eq!(whole_minutes(&[]), Vec::<i64>::new());
    }
}
