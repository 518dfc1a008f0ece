//! Small words: ages, durations, percents.

use jiff::Timestamp;

/// `3 ms`, `1.8 s`, `2 min 5 s`, `3 h 10 min`, `4 d`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        _ if ms < 1_000 => format!("{ms} ms"),
        0..=9 => format!("{}.{} s", s, ms % 1000 / 100),
        10..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min {} s", s / 60, s % 60),
        7_200..=172_799 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d", s / 86_400),
    }
}

/// `5 min ago`; a time in the future is `just now`.
#[must_use]
pub fn age(at: Timestamp, now: Timestamp) -> String {
    let ms = now.as_millisecond().saturating_sub(at.as_millisecond());
    match u64::try_from(ms) {
        Ok(ms @ 1_000..=9_999) => format!("{} s ago", ms / 1_000),
        Ok(ms) if ms >= 10_000 => format!("{} ago", duration(ms)),
        _ => "just now".to_owned(),
    }
}

/// `5 s`, `12 min`, `3 h`, `4 d`: the largest unit alone, for narrow columns.
#[must_use]
pub fn short_age(at: Timestamp, now: Timestamp) -> String {
    let s = now.as_second().saturating_sub(at.as_second()).max(0);
    match s {
        0..=59 => format!("{s} s"),
        60..=3_599 => format!("{} min", s / 60),
        3_600..=86_399 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

/// The time from one moment to another.
#[must_use]
pub fn span(from: Timestamp, to: Timestamp) -> String {
    let ms = to.as_millisecond().saturating_sub(from.as_millisecond());
    duration(u64::try_from(ms).unwrap_or(0))
}

/// `2026-11-20 10:00:00 UTC (5 min ago)`.
#[must_use]
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", at.strftime("%Y-%m-%d %H:%M:%S UTC"), age(at, now))
}

/// `0.42 %`, `5 %`; no requests: `-`.
#[must_use]
pub fn percent(part: u64, all: u64) -> String {
    if all == 0 {
        return "-".to_owned();
    }
    #[allow(clippy::cast_precision_loss)] // for people
    let value = part as f64 * 100.0 / all as f64;
    if value == 0.0 || value >= 10.0 { format!("{value:.0} %") } else { format!("{value:.2} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let cases = [
            (3, "3 ms"),
            (1_840, "1.8 s"),
            (12_000, "12 s"),
            (125_000, "2 min 5 s"),
            (11_400_000, "3 h 10 min"),
            (4 * 86_400_000, "4 d"),
        ];
        for (ms, words) in cases {
            assert_eq!(duration(ms), words);
        }
    }

    #[test]
    fn ages_never_go_negative() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(age(Timestamp::from_second(2_000).unwrap(), now), "just now");
        assert_eq!(age(Timestamp::from_second(940).unwrap(), now), "60 s ago");
        assert_eq!(age(Timestamp::from_millisecond(994_100).unwrap(), now), "5 s ago");
        assert_eq!(short_age(Timestamp::from_second(2_000).unwrap(), now), "0 s");
        assert_eq!(short_age(Timestamp::from_second(-90_000).unwrap(), now), "1 d");
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(1, 400), "0.25 %");
    }
}
