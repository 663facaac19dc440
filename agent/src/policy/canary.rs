//! Which devices of a segment are enforced first.
//!
//! A share is drawn by the device's name: the same ones every time, on every host, and a larger share
//! holds every device of a smaller one.

use super::agent::Percent;
use super::location::Located;
use super::model::{Device, Labels, Mode, Policy, carries};

/// Devices that are enforced while the rest of their segment is observed; at least one of both is given.
#[derive(Debug, Clone)]
pub struct Canary {
    /// So many of all.
    pub share: Option<Located<Percent>>,
    /// Those with all of these labels.
    pub labels: Option<Located<Labels>>,
}

impl Canary {
    /// True for a device that is among the first.
    pub fn holds(&self, device: &Device) -> bool {
        let drawn = self.share.as_ref().is_some_and(|share| share.value.holds(draw(device.name.as_str())));
        drawn || self.labels.as_ref().is_some_and(|labels| carries(&device.labels, &labels.value))
    }
}

impl Policy {
    /// Whether what policy refuses a device is dropped.
    pub fn mode_of(&self, device: &Device) -> Mode {
        let network = self.networks.get(&device.network.value).map_or(Mode::Enforce, |network| network.mode);
        let Some(segment) = device.segment.as_ref().and_then(|name| self.segments.get(name)) else {
            return network;
        };
        let stricter = segment.mode.as_ref().is_some_and(|mode| mode.value == Mode::Enforce);
        let first = segment.canary.as_ref().is_some_and(|canary| canary.holds(device));
        if stricter || first { Mode::Enforce } else { network }
    }
}

/// FNV-1a over the name, its bits mixed once more: names that differ in their last digit must not lie together.
fn draw(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn chosen(share: &str) -> BTreeSet<u32> {
        let share = Percent::parse(share).unwrap();
        (0..20_000).filter(|n| share.holds(draw(&format!("charger-{n:05}")))).collect()
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says_and_a_larger_one_holds_it() {
        let (five, ten) = (chosen("5%"), chosen("10%"));
        assert!((900..1100).contains(&five.len()), "{}", five.len());
        assert!((1850..2150).contains(&ten.len()), "{}", ten.len());
        assert!(five.is_subset(&ten));
        assert_eq!((chosen("0%").len(), chosen("100%").len()), (0, 20_000));
    }

    #[test]
    fn the_draw_never_changes() {
        assert_eq!(draw("charger-0017"), 0x8a9c_2e2c_aae2_4b26);
    }
}
