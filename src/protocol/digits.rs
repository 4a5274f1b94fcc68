//! A number in text, without an allocation.

/// Its digits.
pub(super) struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    /// `base` is 10 or 16; 64 bits need up to 20 digits.
    pub fn new(mut number: u64, base: u64) -> Digits {
        let mut digits = Digits { text: [b'0'; 20], start: 20 };
        for slot in digits.text.iter_mut().rev() {
            *slot = b"0123456789abcdef"[(number % base) as usize];
            digits.start -= 1;
            number /= base;
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
            assert_eq!(Digits::new(number, 10).as_bytes(), number.to_string().as_bytes());
            assert_eq!(Digits::new(number, 16).as_bytes(), format!("{number:x}").as_bytes());
        }
    }
}
