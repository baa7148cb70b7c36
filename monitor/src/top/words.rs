//! Figures as a person reads them, short enough for a column.

/// What stands for a figure that is not known.
pub(super) const NONE: &str = "–";

/// A measured duration: 0.02 ms, 12 ms, 1.50 s, 12.3 s, 3m05s.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_995 => format!("{:.2} ms", s * 1e3),
        s if s < 0.009_95 => format!("{:.1} ms", s * 1e3),
        s if s < 0.999_5 => format!("{:.0} ms", s * 1e3),
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        s => age(s),
    }
}

/// A duration that is counted up, in whole seconds: 12 s, 3m05s, 2h10m, 3d04h.
pub(super) fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86400, whole % 86400 / 3600),
    }
}

/// An edge of the histograms: 1 ms, 0.75 s, 90 s.
pub(super) fn edge(seconds: f64) -> String {
    if seconds < 0.1 {
        format!("{} ms", (seconds * 1e6).round() / 1e3)
    } else {
        format!("{seconds} s")
    }
}

/// A share of something; none of nothing.
pub(super) fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// A share in percent; a little is not told as nothing, and almost all not as all.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 1.0 => "<1 %".to_owned(),
        p if p > 99.0 && p < 100.0 => ">99 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// A number with its thousands apart: 1,234,567.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A figure that may not be known.
pub(super) fn or_none<T>(figure: Option<T>, word: impl FnOnce(T) -> String) -> String {
    figure.map_or_else(|| NONE.to_owned(), word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_unit_and_three_digits() {
        for (seconds, word) in [
            (0.0, "0.00 ms"),
            (0.000_39, "0.39 ms"),
            (0.000_999, "1.0 ms"),
            (0.012_3, "12 ms"),
            (0.999_9, "1.00 s"),
            (4.000_9, "4.00 s"),
            (9.999, "10.0 s"),
            (59.96, "59 s"),
            (61.0, "1m01s"),
        ] {
            assert_eq!(duration(seconds), word);
        }
    }

    #[test]
    fn ages_are_whole_and_short() {
        for (seconds, word) in [
            (-1.0, "0 s"),
            (59.9, "59 s"),
            (60.0, "1m00s"),
            (3599.0, "59m59s"),
            (7800.0, "2h10m"),
            (273_600.0, "3d04h"),
        ] {
            assert_eq!(age(seconds), word);
        }
    }

    #[test]
    fn edges_are_told_as_they_are() {
        let edges = [0.001, 0.0025, 0.05, 0.1, 0.75, 1.0, 12.0, 90.0];
        let words = [
            "1 ms", "2.5 ms", "50 ms", "0.1 s", "0.75 s", "1 s", "12 s", "90 s",
        ];
        assert_eq!(edges.map(edge), words);
    }

    #[test]
    fn shares_do_not_lie_at_their_ends() {
        for (part, of, word) in [
            (0, 5, "0 %"),
            (1, 1000, "<1 %"),
            (999, 1000, ">99 %"),
            (5, 5, "100 %"),
        ] {
            assert_eq!(or_none(share(part, of), percent), word);
        }
        assert_eq!(or_none(share(0, 0), percent), NONE);
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
