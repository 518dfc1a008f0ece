//! Numbers as people read them.

/// A duration, rounded to what matters.
pub(crate) fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 if (ms + 50) % 1_000 >= 100 => format!("{:.1} s", ms as f64 / 1e3),
        1_000..120_000 => format!("{} s", (ms + 500) / 1_000),
        120_000..7_200_000 => format!("{} min", (ms + 30_000) / 60_000),
        _ => format!("{} h", (ms + 1_800_000) / 3_600_000),
    }
}

/// A latency given in microseconds.
pub(crate) fn latency(us: f64) -> String {
    if us < 1_000.0 {
        format!("{us:.0} µs")
    } else if us < 10_000.0 {
        format!("{:.1} ms", us / 1e3)
    } else if us < 1e6 {
        format!("{:.0} ms", us / 1e3)
    } else {
        format!("{:.1} s", us / 1e6)
    }
}

/// A percentage with as many digits as it needs.
pub(crate) fn percent(value: f64) -> String {
    if value == 0.0 || value >= 0.1 { format!("{value:.1} %") } else { format!("{value:.3} %") }
}

/// "4.8 % of 312 requests".
pub(crate) fn rate(part: u64, total: u64) -> String {
    format!("{} requests", rate_of(part, total))
}

/// "4.8 % of 312".
pub(crate) fn rate_of(part: u64, total: u64) -> String {
    format!("{} of {total}", percent(crate::windows::percent(part, total)))
}

/// "once" or "3 times in a row".
pub(crate) fn times_in_a_row(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times in a row") }
}

/// "< 1 in 10 000", rounded down to one digit so that it never says too much.
pub(crate) fn odds(e_value: f64) -> String {
    let bounded = e_value.clamp(1.0, 1e6);
    let mut power = 1u64;
    while (power * 10) as f64 <= bounded {
        power *= 10;
    }
    let rounded = (bounded / power as f64).floor() as u64 * power;
    let digits = rounded.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        // INTERFACES writes 10 000 but 5930: four digits stay together.
        if digits.len() > 4 && index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    format!("< 1 in {grouped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(2_000), "2 s");
        assert_eq!(duration(2_500), "2.5 s");
        assert_eq!(duration(60_000), "60 s");
        assert_eq!(duration(300_000), "5 min");
        assert_eq!(duration(86_400_000), "24 h");
        assert_eq!(latency(84_200.0), "84 ms");
        assert_eq!(percent(4.84), "4.8 %");
        assert_eq!(percent(0.03), "0.030 %");
        assert_eq!(times_in_a_row(1), "once");
    }

    #[test]
    fn odds_are_rounded_down() {
        assert_eq!(odds(10_999.0), "< 1 in 10 000");
        assert_eq!(odds(137.0), "< 1 in 100");
        assert_eq!(odds(270.0), "< 1 in 200");
        assert_eq!(odds(f64::INFINITY), "< 1 in 1 000 000");
        assert_eq!(odds(1000.0), "< 1 in 1000");
    }
}
