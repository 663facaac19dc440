//! Which equipment holds the SIM (3GPP TS 23.003 clause 6.2).

use std::fmt;

/// Digits of a type allocation code.
const TAC_DIGITS: usize = 8;
/// Digits that name a piece of equipment; the rest is a check digit, or a software version.
const OWN_DIGITS: usize = 14;

/// An IMEI or IMEISV. Two are the same if their first 14 digits are: what follows names nobody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Imei(String);

impl Imei {
    /// Reads 14 to 16 digits.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = (14..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        match digits {
            true => Ok(Self(text[..OWN_DIGITS].to_owned())),
            false => Err(format!(
                "{text:?} is no IMEI: it is 14 to 16 digits, in quotes (3GPP TS 23.003 clause 6.2)"
            )),
        }
    }

    /// The digits that name it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type of the equipment.
    pub fn tac(&self) -> Tac {
        Tac(self.0[..TAC_DIGITS].to_owned())
    }
}

impl fmt::Display for Imei {
    /// Writes the type in full, and not whose it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.tac())
    }
}

/// A type allocation code: maker and model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tac(String);

impl Tac {
    /// Reads 8 digits.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.len() == TAC_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        match digits {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "{text:?} is no TAC: it is the first {TAC_DIGITS} digits of an IMEI, in quotes (3GPP TS 23.003 clause 6.2.1)"
            )),
        }
    }
}

impl fmt::Display for Tac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digit_and_software_version_name_nobody() {
        let imei = Imei::parse("350000000000017").unwrap();
        assert_eq!(imei, Imei::parse("3500000000000199").unwrap());
        assert_ne!(imei, Imei::parse("35000000000002").unwrap());
        assert_eq!(imei.tac(), Tac::parse("35000000").unwrap());
        assert_eq!(imei.to_string(), "35000000…", "whose it is stays out of messages");
    }

    #[test]
    fn other_texts_are_none() {
        for text in ["", "3500000000000", "35000000000000171", "35-000000-000001"] {
            assert!(Imei::parse(text).is_err() && Tac::parse(text).is_err(), "{text}");
        }
    }
}
