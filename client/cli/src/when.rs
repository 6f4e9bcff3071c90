//! Times as people write them: `never`, a duration from now like `30d`, or Unix seconds.

use windlass_protocol::record::NEVER;

/// A time in the future, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// No expiry.
    Never,
    /// Unix seconds.
    At(u64),
    /// Seconds from now.
    In(u64),
}

impl Until {
    /// Unix seconds, as records hold them.
    pub(crate) fn at(self, now: u64) -> u64 {
        match self {
            Self::Never => NEVER,
            Self::At(time) => time.min(NEVER - 1),
            Self::In(seconds) => now.saturating_add(seconds).min(NEVER - 1),
        }
    }
}

/// Reads `never`, `90d`, or Unix seconds. For clap.
pub(crate) fn parse_until(text: &str) -> Result<Until, String> {
    if text == "never" {
        return Ok(Until::Never);
    }
    // A small bare number is a duration without its unit rather than a time of 1970.
    if let Ok(seconds) = text.parse::<u64>()
        && seconds >= 1_000_000_000
    {
        return Ok(Until::At(seconds));
    }
    let seconds = parse_duration(text)
        .map_err(|_| "expected `never`, a time from now like 12h, 30d or 1y, or Unix seconds".to_owned())?;
    Ok(Until::In(seconds))
}

/// Reads a number with its unit (s, m, h, d, y) as seconds. For clap.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number with a unit: s, m, h, d or y, like 90s, 12h or 1y".to_owned();
    let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "y" => 365 * 86_400,
        _ => return Err(wrong()),
    };
    let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds =
        number.and_then(|number| number.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit));
    seconds.filter(|seconds| (1..NEVER).contains(seconds)).ok_or_else(wrong)
}

/// A duration for people: `3 min 20 s`.
pub(crate) fn spoken(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        assert_eq!(parse_until("never"), Ok(Until::Never));
        assert_eq!(parse_until("30d"), Ok(Until::In(30 * 86_400)));
        assert_eq!(parse_until("1800000000"), Ok(Until::At(1_800_000_000)));
        assert_eq!(parse_duration("90s"), Ok(90));
        assert_eq!(parse_duration("1y"), Ok(31_536_000));
        for text in
            ["", "s", "30", "-1d", "+1d", "0s", "1w", "1 d", "99999999999999999999y", "30é", "tomorrow"]
        {
            assert!(parse_until(text).is_err(), "{text}");
        }
    }

    #[test]
    fn never_is_only_never() {
        assert_eq!(Until::Never.at(5), NEVER);
        assert_eq!(Until::In(10).at(5), 15);
        assert_eq!(Until::At(u64::MAX).at(5), NEVER - 1);
        assert_eq!(Until::In(u64::MAX).at(5), NEVER - 1);
    }
}
