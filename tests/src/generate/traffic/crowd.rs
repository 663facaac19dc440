//! One device says much at once: new conversations, or more of one that is there.

use super::{Frame, Said, Traffic, Words};

impl Traffic {
    /// Puts some of what is welcome, and variations of it, on its way.
    pub(super) fn begin_crowd(&mut self) {
        // Between devices it is another one's packets that must not be charged, and there are few of these.
        let among =
            if self.random.chance(50) && !self.lateral.is_empty() { &self.lateral } else { &self.welcome };
        if among.is_empty() {
            return;
        }
        let first = self.random.pick(among).clone();
        for number in 0..3 + self.random.below(5) as u16 {
            let mut said = first.clone();
            match self.random.below(4) {
                // Another conversation, which is the caller's to begin.
                0 | 1 => said.words = said.words.of_another(number),
                2 => self.answer(&mut said),
                _ => {}
            }
            self.join(said);
        }
    }

    fn join(&mut self, said: Said) {
        let (place, frame): (_, Frame) = self.speak(said);
        self.train.push_back((place, frame.build()));
    }
}

impl Words {
    /// The same from another port or with another identifier, if there is one.
    fn of_another(self, number: u16) -> Self {
        match self {
            Self::Tcp(source, destination, flags) => Self::Tcp(source ^ number, destination, flags),
            Self::Udp(source, destination) => Self::Udp(source ^ number, destination),
            Self::Sctp(source, destination) => Self::Sctp(source ^ number, destination),
            Self::Ping(id) => Self::Ping(id ^ number),
            Self::Pong(id) => Self::Pong(id),
            Self::Portless(protocol) => Self::Portless(protocol),
        }
    }
}
