//! Tags, options, extension headers and fragments.

use super::{Place, Traffic};
use crate::frame::{AUTHENTICATION, DESTINATION, Frame, HOP_BY_HOP, ROUTING, eth};

impl Traffic {
    pub(super) fn headers(&mut self, (_, outer, inner): Place, mac: u8) -> Frame {
        let mut frame = eth().from_mac([2, 0, 0, 0, 0, mac]);
        for vlan in [outer, inner].into_iter().filter(|vlan| *vlan > 0) {
            let protocol = *self.random.pick(&[0x8100, 0x8100, 0x8100, 0x88a8]);
            let priority = (self.random.below(16) as u16) << 12;
            frame = frame.tag(protocol, vlan | priority);
        }
        if self.random.chance(2) {
            frame = frame.tag(0x8100, *self.random.pick(&[0, 0xe000, 1, 4095]));
        }
        frame
    }

    /// Options, extension headers and fragments, now and then.
    pub(super) fn with_extras(&mut self, mut frame: Frame, v6: bool) -> Frame {
        if v6 && self.random.chance(12) {
            for at in 0..1 + self.random.below(7) {
                let kind =
                    *self.random.pick(&[DESTINATION, DESTINATION, AUTHENTICATION, ROUTING, HOP_BY_HOP]);
                let kind = if at == 0 && self.random.chance(40) { HOP_BY_HOP } else { kind };
                let content = vec![0; 2 + self.random.below(20)];
                frame = frame.extension(kind, &content);
            }
        }
        if !v6 && self.random.chance(12) {
            let options = self.options();
            frame = frame.ip_options(&options);
        }
        match self.random.below(60) {
            0..4 if v6 && self.random.chance(20) => {
                let many =
                    (0..4 + self.random.below(3)).fold(frame, |it, _| it.extension(DESTINATION, &[0; 6]));
                many.fragment_header(8, true).extension(DESTINATION, &[0; 6])
            }
            0 if v6 => frame.fragment_header(*self.random.pick(&[0, 8, 1480]), self.random.chance(50)),
            0 => frame.fragment(*self.random.pick(&[0, 8, 1480]), self.random.chance(50)),
            _ => frame,
        }
    }

    /// IPv4 options: padding, router alert, recorded routes, and source routes.
    fn options(&mut self) -> Vec<u8> {
        const KNOWN: [&[u8]; 6] = [
            &[148, 4, 0, 0],
            &[7, 11, 4, 131, 0, 0, 0, 137, 0, 0, 0],
            &[68, 8, 5, 0, 1, 1, 1, 1],
            &[131, 7, 4, 10, 45, 0, 18],
            &[137, 7, 4, 10, 45, 0, 19],
            &[7, 40, 4],
        ];
        let mut options = vec![1; self.random.below(39)];
        for _ in 0..self.random.below(4) {
            let some = if self.random.chance(80) { &KNOWN[..3] } else { &KNOWN[3..] };
            let known = *self.random.pick(some);
            let at = self.random.below(options.len() + 1);
            options.truncate(at);
            options.extend(known);
        }
        options.truncate(40);
        options
    }
}
