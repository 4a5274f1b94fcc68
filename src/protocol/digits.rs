//! A number in text, without an allocation.

/// Its digits.
pub(super) struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    pub fn decimal(number: u64) -> Digits {
        Self::new::<10>(number)
    }

    pub fn hexadecimal(number: u64) -> Digits {
        Self::new::<16>(number)
    }

    /// A division by a constant is a multiplication. 64 bits need up to 20 digits.
    fn new<const BASE: u64>(mut number: u64) -> Digits {
        let mut digits = Digits { text: [b'0'; 20], start: 20 };
        for slot in digits.text.iter_mut().rev() {
            *slot = b"0123456789abcdef"[(number % BASE) as usize];
            digits.start -= 1;
            number /= BASE;
            if number == 0 {
                break;
            }
        }
        digits
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 255, 4096, 1_000_000, u64::MAX] {
            assert_eq!(Digits::decimal(number).as_bytes(), number.to_string().as_bytes());
            assert_eq!(Digits::hexadecimal(number).as_bytes(), format!("{number:x}").as_bytes());
        }
    }
}
