//! Numbers of workers, in forms of their own: `--workers 2..16`, `--max-surge 25%`.

#![forbid(unsafe_code)]

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many workers there are: `4`, or as many as are needed within limits: `2..16`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSize {
    pub min: u16,
    pub max: u16,
}

impl PoolSize {
    const MOST: u16 = 4096;

    pub fn fixed(count: u16) -> Self {
        PoolSize { min: count, max: count }
    }

    pub fn is_fixed(self) -> bool {
        self.min == self.max
    }
}

impl FromStr for PoolSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|number| *number <= Self::MOST);
        let size = match text.split_once("..") {
            None => number(text).map(PoolSize::fixed),
            Some((min, max)) => number(min).zip(number(max)).map(|(min, max)| PoolSize { min, max }),
        };
        match size {
            None => Err(format!("expected a number up to {}, or two such as 2..16", Self::MOST)),
            Some(size) if size.max == 0 => Err("without a worker nobody answers".to_owned()),
            Some(size) if size.min > size.max => Err("the first number is the smaller one".to_owned()),
            Some(size) => Ok(size),
        }
    }
}

/// Workers beyond those that are wanted, during a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surge {
    Count(u16),
    Percent(u16),
}

impl Surge {
    /// For so many workers: at least one.
    pub fn of(self, workers: u16) -> usize {
        let surge = match self {
            Surge::Count(count) => count.into(),
            Surge::Percent(percent) => (usize::from(workers) * usize::from(percent)).div_ceil(100),
        };
        surge.max(1)
    }
}

impl FromStr for Surge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, surge): (&str, fn(u16) -> Surge) = match text.strip_suffix('%') {
            Some(percent) => (percent, Surge::Percent),
            None => (text, Surge::Count),
        };
        let number = number.parse().ok().filter(|number| *number > 0).map(surge);
        number.ok_or_else(|| "expected a number of workers, or a percentage like 25%".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_one_number_or_two() {
        let size = |min, max| Ok(PoolSize { min, max });
        for (text, expected) in [
            ("1", size(1, 1)),
            ("4096", size(4096, 4096)),
            ("0..1", size(0, 1)),
            ("2..16", size(2, 16)),
            ("3..3", size(3, 3)),
        ] {
            assert_eq!(text.parse::<PoolSize>(), expected, "{text}");
        }
        for text in
            ["", "0", "0..0", "3..2", "..", "2..", "..2", "2...3", "4097", "1..4097", "-1", "2-4", "1.5"]
        {
            text.parse::<PoolSize>().expect_err(text);
        }
    }

    #[test]
    fn a_surge_is_a_number_or_a_percentage_and_at_least_one_worker() {
        for (text, workers, expected) in [
            ("1", 8, 1),
            ("5", 8, 5),
            ("25%", 8, 2),
            ("25%", 9, 3),
            ("1%", 1, 1),
            ("100%", 7, 7),
            ("200%", 2, 4),
        ] {
            assert_eq!(
                text.parse::<Surge>().map(|surge| surge.of(workers)),
                Ok(expected),
                "{text} of {workers}"
            );
        }
        for text in ["", "0", "0%", "%", "-1", "a", "25 %", "70000"] {
            text.parse::<Surge>().expect_err(text);
        }
        assert_eq!(Surge::Percent(u16::MAX).of(u16::MAX), 42_948_363);
    }
}
