//! What is held of each device, by its number: numbers are given out from 1 on, so few are missing.

use bulkhead_common::abi::DeviceId;

/// Values by the numbers of devices; found without a search.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ByDevice<T>(Vec<Option<T>>);

impl<T> Default for ByDevice<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByDevice<T> {
    /// What is held of a device.
    pub fn get(&self, id: DeviceId) -> Option<&T> {
        self.0.get(id.0 as usize)?.as_ref()
    }

    /// Every device of which something is held, by number.
    pub fn iter(&self) -> impl Iterator<Item = (DeviceId, &T)> {
        (0..).map(DeviceId).zip(&self.0).filter_map(|(id, held)| Some((id, held.as_ref()?)))
    }

    /// Holds something of a device, or nothing any more. There is room up to the number: it must be one of a table's.
    pub(super) fn set(&mut self, id: DeviceId, value: Option<T>) {
        let at = id.0 as usize;
        if value.is_some() && at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        if let Some(place) = self.0.get_mut(at) {
            *place = value;
        }
        // Equal contents are equal values.
        while self.0.pop_if(|last| last.is_none()).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_held_until_it_is_not() {
        let mut held = ByDevice::default();
        for (id, value) in [(3, Some('c')), (1, Some('a')), (7, None), (3, Some('C')), (5, Some('e'))] {
            held.set(DeviceId(id), value);
        }
        assert_eq!(held.get(DeviceId(3)), Some(&'C'));
        assert_eq!((held.get(DeviceId(2)), held.get(DeviceId(9))), (None, None));
        held.set(DeviceId(5), None);
        let all: Vec<_> = held.iter().map(|(id, value)| (id.0, *value)).collect();
        assert_eq!(all, [(1, 'a'), (3, 'C')]);
        held.set(DeviceId(1), None);
        held.set(DeviceId(3), None);
        assert_eq!(held, ByDevice::default(), "nothing is left");
    }
}
