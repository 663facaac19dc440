//! Where a device is, as the radio network says it (3GPP TS 23.003).

use std::fmt;

use super::country::Country;

/// A mobile network: country code and network code (clause 2.2), `24201`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plmn(String);

impl Plmn {
    /// Reads 5 or 6 digits.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = matches!(text.len(), 5 | 6) && text.bytes().all(|byte| byte.is_ascii_digit());
        match digits {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "{text:?} is no PLMN: it is 5 or 6 digits, three of the country (MCC) and two or three of the \
                 network (MNC), like \"24201\" (3GPP TS 23.003 clause 2.2)"
            )),
        }
    }

    /// The country that the network belongs to; none for satellites and the like.
    pub fn country(&self) -> Option<Country> {
        Country::of_mcc(&self.0[..3])
    }

    /// The network of a place in its normal form.
    pub(crate) fn of_place(place: &str) -> &str {
        place.split_once('-').map_or(place, |(plmn, _)| plmn)
    }

    fn split(text: &str) -> Option<(Self, &str)> {
        let (plmn, rest) = text.split_once('-')?;
        Some((Self::parse(plmn).ok()?, rest))
    }
}

impl fmt::Display for Plmn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hexadecimal digits, in small letters.
fn hex(text: &str, lengths: &[usize]) -> Option<String> {
    let good = lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| text.to_ascii_lowercase())
}

/// A tracking area (clauses 19.4.2.3 and 28.6): `24201-1a2b` in 4G, `24201-001a2b` in 5G; a location area of 2G and
/// 3G looks like the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackingArea {
    plmn: Plmn,
    code: String,
}

impl TrackingArea {
    /// Reads `PLMN-TAC`.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read = Plmn::split(text).and_then(|(plmn, code)| Some(Self { plmn, code: hex(code, &[4, 6])? }));
        read.ok_or_else(|| {
            format!(
                "{text:?} is no tracking area: write PLMN-TAC, the TAC as 4 hexadecimal digits in 4G and 6 in 5G, like \
                 \"24201-1a2b\" (TAI, 3GPP TS 23.003 clauses 19.4.2.3 and 28.6)"
            )
        })
    }

    /// The network that it belongs to.
    pub fn plmn(&self) -> &Plmn {
        &self.plmn
    }
}

impl fmt::Display for TrackingArea {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.plmn, self.code)
    }
}

/// A cell: `24201-0a1b2c3` in 4G (ECGI, clause 19.6), `24201-00a1b2c3d` in 5G (NCGI, clause 19.6A), `24201-1a2b-3c4d` in
/// 2G and 3G (CGI, clause 4.3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    plmn: Plmn,
    identity: String,
}

impl Cell {
    /// Reads `PLMN-CELL`, or `PLMN-LAC-CI`.
    ///
    /// # Errors
    /// A sentence that says how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let identity = |text: &str| match text.split_once('-') {
            None => hex(text, &[7, 9]),
            Some((area, cell)) => Some(format!("{}-{}", hex(area, &[4])?, hex(cell, &[4])?)),
        };
        let read = Plmn::split(text).and_then(|(plmn, rest)| Some(Self { plmn, identity: identity(rest)? }));
        read.ok_or_else(|| {
            format!(
                "{text:?} is no cell: write PLMN-CELL, the cell as 7 hexadecimal digits in 4G (ECGI) and 9 in 5G (NCGI), \
                 like \"24201-0a1b2c3\", or PLMN-LAC-CI in 2G and 3G (3GPP TS 23.003 clauses 19.6, 19.6A and 4.3.1)"
            )
        })
    }

    /// The network that it belongs to.
    pub fn plmn(&self) -> &Plmn {
        &self.plmn
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.plmn, self.identity)
    }
}

/// A radio access technology, as the core network tells it (3GPP TS 29.274 clause 8.17, TS 29.571).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rat {
    /// 5G.
    Nr,
    /// 4G.
    Lte,
    /// LTE for machines, category M.
    LteM,
    /// Narrowband IoT.
    NbIot,
    /// 3G.
    Umts,
    /// 2G.
    Gsm,
    /// Wireless LAN.
    Wlan,
}

impl Rat {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Nr, Self::Lte, Self::LteM, Self::NbIot, Self::Umts, Self::Gsm, Self::Wlan];

    /// The word in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nr => "nr",
            Self::Lte => "lte",
            Self::LteM => "lte-m",
            Self::NbIot => "nb-iot",
            Self::Umts => "umts",
            Self::Gsm => "gsm",
            Self::Wlan => "wlan",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// A sentence that lists the words.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|rat| rat.as_str() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str);
            format!("unknown radio access {text:?}: use one of `{}`", words.join("`, `"))
        })
    }
}

impl fmt::Display for Rat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_brought_into_one_form() {
        assert_eq!(Plmn::parse("310410").unwrap().to_string(), "310410");
        assert_eq!(TrackingArea::parse("24201-1A2B").unwrap().to_string(), "24201-1a2b");
        assert_eq!(TrackingArea::parse("310410-001A2B").unwrap().plmn().to_string(), "310410");
        for cell in ["24201-0a1b2c3", "24201-00a1b2c3d", "24201-1a2b-3c4d"] {
            assert_eq!(Cell::parse(&cell.to_uppercase()).unwrap().to_string(), cell);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "2420", "2420123", "242-01", "2420x", "２４２０１"] {
            assert!(Plmn::parse(text).is_err(), "{text}");
        }
        for text in
            ["24201", "24201-", "24201-1a2", "24201-1a2b3", "2420-1a2b", "24201-1a2g", "24201-1a2b-3c4d"]
        {
            assert!(TrackingArea::parse(text).is_err(), "{text}");
        }
        for text in
            ["24201", "24201-1a2b", "24201-0a1b2c", "24201-0a1b2c3d", "24201-1a2b-3c", "24201-1a2b-3c4d-5"]
        {
            assert!(Cell::parse(text).is_err(), "{text}");
        }
        assert!(Rat::parse("LTE").unwrap_err().contains("`lte-m`"));
    }
}
