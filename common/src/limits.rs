//! What a device may send, receive and open in a second.
//!
//! Each limit is one word of the device's own row, the theoretical arrival time of the generic cell rate algorithm (ITU-T
//! I.371): a packet that conforms moves it on by its cost, in one exchange. A packet conforms if
//! with it no more than a second is owed: a second's worth may come at once. One that costs more than a second
//! by itself passes when nothing is owed, and is paid off afterwards.
//!
//! A packet is charged once, and only if it passes: to the device that sent it, or to the device that it is for if
//! it comes from outside. Both ways have words of their own, so whoever floods a device from outside takes nothing
//! from what it may send.

use crate::abi::value::{BYTES_OWED, FLOWS_OWED, PACKETS_OWED};
use crate::abi::{DeviceId, Limits};
use crate::flow_table::Memory;
use crate::verdict::DropReason;

/// What may be owed: a second's worth.
const BURST_NS: u64 = 1_000_000_000;
/// How often a word is tried again that another CPU was faster at.
const TRIES: u32 = 8;

/// What a packet is charged for, in one number: `opens << 63 | received << 62 | packets << 32 | bytes`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(transparent)]
pub struct Toll(pub u64);

const OPENS: u64 = 1 << 63;
const RECEIVED_SHIFT: u32 = 62;
const PACKETS_SHIFT: u32 = 32;
const PACKETS: u64 = (1 << (RECEIVED_SHIFT - PACKETS_SHIFT)) - 1;

impl Toll {
    /// So many packets of so many bytes together; `received` says that they come to the device from outside, `opens`
    /// that they begin a flow.
    #[inline(always)]
    pub const fn new(packets: u32, bytes: u32, received: bool, opens: bool) -> Self {
        let amount = (packets as u64 & PACKETS) << PACKETS_SHIFT | bytes as u64;
        Self(amount | (received as u64) << RECEIVED_SHIFT | if opens { OPENS } else { 0 })
    }

    /// What it costs of each limit, and in which word.
    #[inline(always)]
    const fn bills(self, limits: &Limits) -> [(usize, u64); 3] {
        let side = (self.0 >> RECEIVED_SHIFT & 1) as usize;
        let flow = if self.0 & OPENS == 0 { 0 } else { limits.flow_ns as u64 };
        let packets = (self.0 >> PACKETS_SHIFT & PACKETS) * limits.packet_ns as u64;
        let bytes = limits.frame_ns(self.0 as u32);
        [(FLOWS_OWED + side, flow), (PACKETS_OWED + side, packets), (BYTES_OWED + side, bytes)]
    }
}

/// Charges a packet that would pass; one that is over a limit costs nothing.
///
/// # Errors
/// The device is over its limit of new flows, or over one of its rates.
#[inline(always)]
pub fn charge<M: Memory + ?Sized>(
    memory: &M,
    device: DeviceId,
    limits: &Limits,
    toll: Toll,
    now: u64,
) -> Result<(), DropReason> {
    let row = memory.device(device).ok_or(DropReason::InternalTable)?;
    let [flow, packet, bytes] = toll.bills(limits);
    if !spend(memory, row, flow, now) {
        return Err(DropReason::FlowRateLimited);
    }
    if !spend(memory, row, packet, now) {
        take_back(memory, row, flow);
        return Err(DropReason::RateLimited);
    }
    if !spend(memory, row, bytes, now) {
        take_back(memory, row, flow);
        take_back(memory, row, packet);
        return Err(DropReason::RateLimited);
    }
    Ok(())
}

/// Undoes [`charge`] for a packet that was refused after all.
#[inline(always)]
pub fn refund<M: Memory + ?Sized>(memory: &M, device: DeviceId, limits: &Limits, toll: Toll) {
    let Some(row) = memory.device(device) else { return };
    let [flow, packet, bytes] = toll.bills(limits);
    take_back(memory, row, flow);
    take_back(memory, row, packet);
    take_back(memory, row, bytes);
}

/// Moves a word on by a cost in nanoseconds; false if that would be over the limit. Without a limit nothing is touched.
#[inline(always)]
fn spend<M: Memory + ?Sized>(memory: &M, row: M::Row, (word, cost): (usize, u64), now: u64) -> bool {
    if cost == 0 {
        return true;
    }
    for _ in 0..TRIES {
        let owed_until = memory.load(row, word);
        let from = if owed_until > now { owed_until } else { now };
        let owed = from - now;
        if owed != 0 && owed.saturating_add(cost) > BURST_NS {
            return false;
        }
        if memory.exchange(row, word, owed_until, from.wrapping_add(cost)) {
            return true;
        }
    }
    // So many CPUs at once: the limit holds, whoever loses.
    false
}

/// What others have charged since stays charged: the word is a sum. Only if everything was paid off between a charge and
/// its refund, a tick of the clock at the least, what is taken back is somebody else's: one packet too many may pass.
#[inline(always)]
fn take_back<M: Memory + ?Sized>(memory: &M, row: M::Row, (word, cost): (usize, u64)) {
    if cost != 0 {
        memory.add(row, word, cost.wrapping_neg());
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::abi::FlowGeometry;

    /// One device's words.
    #[derive(Default)]
    struct Words([Cell<u64>; 8]);

    impl Memory for Words {
        type Row = ();

        fn geometry(&self) -> Option<&FlowGeometry> {
            None
        }

        fn slot(&self, _index: u32) -> Option<()> {
            None
        }

        fn device(&self, _device: DeviceId) -> Option<()> {
            Some(())
        }

        fn load(&self, (): (), word: usize) -> u64 {
            self.0[word].get()
        }

        fn store(&self, (): (), word: usize, value: u64) {
            self.0[word].set(value);
        }

        fn exchange(&self, (): (), word: usize, from: u64, to: u64) -> bool {
            let same = self.0[word].get() == from;
            if same {
                self.0[word].set(to);
            }
            same
        }

        fn add(&self, (): (), word: usize, value: u64) {
            self.0[word].set(self.0[word].get().wrapping_add(value));
        }
    }

    const SECOND: u64 = 1_000_000_000;
    const SENT: Toll = Toll::new(1, 100, false, false);
    const OPENS: Toll = Toll::new(1, 100, false, true);

    fn limits(packets: u32, flows: u32) -> Limits {
        let each = |count: u32| 1_000_000_000u32.checked_div(count).unwrap_or_default();
        Limits { packet_ns: each(packets), flow_ns: each(flows), ..Limits::default() }
    }

    /// How many of some packets pass at a moment.
    fn passing(words: &Words, limits: &Limits, toll: Toll, now: u64) -> usize {
        (0..50).filter(|_| charge(words, DeviceId(1), limits, toll, now).is_ok()).count()
    }

    #[test]
    fn a_second_s_worth_comes_at_once_and_then_one_by_one() {
        let (words, limits) = (Words::default(), limits(4, 0));
        assert_eq!(passing(&words, &limits, SENT, SECOND), 4);
        assert_eq!(passing(&words, &limits, SENT, SECOND + 1), 0);
        assert_eq!(passing(&words, &limits, SENT, SECOND + SECOND / 4 - 1), 0);
        assert_eq!(passing(&words, &limits, SENT, SECOND + SECOND / 4), 1);
        assert_eq!(passing(&words, &limits, SENT, 100 * SECOND), 4);
        for count in [1, 3, 7, 49] {
            assert_eq!(passing(&Words::default(), &self::limits(count, 0), SENT, SECOND), count as usize);
        }
    }

    #[test]
    fn what_is_sent_to_a_device_takes_nothing_from_what_it_may_send() {
        let (words, limits) = (Words::default(), limits(4, 0));
        assert_eq!(passing(&words, &limits, Toll::new(1, 100, true, false), SECOND), 4);
        assert_eq!(passing(&words, &limits, SENT, SECOND), 4);
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let (words, limits) = (Words::default(), limits(2, 3));
        assert_eq!(passing(&words, &limits, OPENS, SECOND), 2);
        let owed = SECOND + 2 * u64::from(limits.flow_ns);
        assert_eq!(words.load((), FLOWS_OWED), owed);
        // A new flow that finds no place is refunded as a whole.
        let later = 3 * SECOND;
        assert_eq!(charge(&words, DeviceId(1), &limits, OPENS, later), Ok(()));
        refund(&words, DeviceId(1), &limits, OPENS);
        assert_eq!((words.load((), FLOWS_OWED), words.load((), PACKETS_OWED)), (later, later));
    }

    #[test]
    fn a_frame_that_is_larger_than_a_second_s_worth_passes_and_is_paid_off() {
        // A kilobit a second: 125 bytes.
        let byte_cost = ((8 * SECOND) << 16) / 1000;
        let (words, limits) = (Words::default(), Limits { byte_cost, ..Limits::default() });
        let frame = Toll::new(1, 1500, false, false);
        assert_eq!(charge(&words, DeviceId(1), &limits, frame, SECOND), Ok(()));
        assert_eq!(charge(&words, DeviceId(1), &limits, frame, 11 * SECOND), Err(DropReason::RateLimited));
        assert_eq!(charge(&words, DeviceId(1), &limits, frame, 13 * SECOND), Ok(()));
    }

    #[test]
    fn each_limit_has_its_reason_and_no_limit_touches_nothing() {
        let words = Words::default();
        assert_eq!(passing(&words, &Limits::default(), OPENS, SECOND), 50);
        assert!(words.0.iter().all(|word| word.get() == 0));
        let limits = limits(0, 1);
        assert_eq!(charge(&words, DeviceId(1), &limits, OPENS, SECOND), Ok(()));
        assert_eq!(charge(&words, DeviceId(1), &limits, OPENS, SECOND), Err(DropReason::FlowRateLimited));
        assert_eq!(charge(&words, DeviceId(1), &limits, SENT, SECOND), Ok(()));
    }
}
