//! Conditions as sentences.

use std::fmt::{self, Display};
use std::time::Duration;

use super::{Condition, Demand, Found, Plmn, Unmet, Version};
use crate::policy::attribute::{AttributeKey, Source, UNKNOWN_AGE};

impl Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In(texts) => f.write_str(&any(texts)),
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
            Self::Below(bound) => write!(f, "below {bound}"),
            Self::Plmn(plmns) => f.write_str(&any(plmns)),
            Self::Country(countries) => write!(f, "in {}", or(countries)),
            Self::TrackingArea(areas) => f.write_str(&any(areas)),
            Self::Cell(cells) => f.write_str(&any(cells)),
            Self::Rat(rats) => f.write_str(&any(rats)),
            Self::Imei(imeis) => f.write_str(&any(imeis)),
            Self::Tac(tacs) => write!(f, "of type {}", or(tacs)),
        }
    }
}

impl Display for Condition {
    /// `firmware at least 2.4, at most 7d old`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.demand)?;
        self.max_age.map_or(Ok(()), |age| write!(f, ", at most {} old", lasting(age)))
    }
}

impl Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {} and ", self.key, self.must)?;
        match &self.found {
            Found::Nothing => f.write_str("is not known"),
            Found::Other { value, source, age } => write!(f, "is {value} ({})", said(*source, *age)),
            Found::Old { value, source, age, max_age } => {
                let said = said(*source, Some(*age));
                write!(f, "was {value} ({said}), which is older than {}", lasting(*max_age))
            }
        }
    }
}

impl Demand {
    /// A value that is not what it must be.
    pub(super) fn told(&self, key: &AttributeKey, value: &str) -> String {
        match self {
            Self::AtLeast(_) | Self::Below(_) if Version::parse(value).is_none() => {
                format!("{value}, which is no version")
            }
            Self::Country(_) => match Plmn::parse(value).ok().and_then(|plmn| plmn.country()) {
                Some(country) => format!("{value} in {country}"),
                None => format!("{value}, which is in no country"),
            },
            Self::AtLeast(_)
            | Self::Below(_)
            | Self::In(_)
            | Self::Plmn(_)
            | Self::TrackingArea(_)
            | Self::Cell(_)
            | Self::Rat(_)
            | Self::Imei(_)
            | Self::Tac(_) => key.shown(value),
        }
    }
}

/// `cli, 2h ago`.
fn said(source: Source, age: Option<Duration>) -> String {
    age.map_or_else(|| source.to_string(), |age| format!("{source}, {}", ago(age)))
}

/// `2h ago`, and for what is so old that nobody knows: `at an unknown time`.
pub(crate) fn ago(age: Duration) -> String {
    match age >= UNKNOWN_AGE {
        true => "at an unknown time".to_owned(),
        false => format!("{} ago", lasting(age)),
    }
}

/// `7d`, `2h`, `5m`, `3s`: the two largest units, as policies write them.
pub(crate) fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let at = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(units.len() - 1);
    let (unit, name) = units[at];
    let rest = units.get(at + 1).map(|(unit, name)| (seconds % units[at].0 / unit, name));
    match rest.filter(|(rest, _)| *rest > 0) {
        Some((rest, small)) => format!("{}{name}{rest}{small}", seconds / unit),
        None => format!("{}{name}", seconds / unit),
    }
}

/// `a`, or `one of a, b`.
fn any<T: Display>(items: &[T]) -> String {
    match items {
        [only] => only.to_string(),
        _ => format!("one of {}", joined(items, ", ")),
    }
}

fn or<T: Display>(items: &[T]) -> String {
    joined(items, " or ")
}

fn joined<T: Display>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h"), (90_061, "1d1h"), (604_800, "7d")]
        {
            assert_eq!(lasting(Duration::from_secs(seconds)), text);
        }
    }
}
