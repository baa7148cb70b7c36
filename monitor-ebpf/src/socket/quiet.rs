//! The way of most segments: an open WebSocket's data, in order, with nothing to be told about them.
//!
//! In: a segment. Out: the same as from [`Socket::arrive`], in a fraction of its steps; or that this is none of those
//! segments, and nothing has changed.

use super::{Direction, Look, Segment, Socket};

impl Socket {
    /// Whether this is a WebSocket of whose end nothing has passed, and both directions are followed.
    #[inline(always)]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let [sent, received] = &self.streams;
        self.is_open() && sent.is_quiet() && received.is_quiet()
    }

    /// Takes a segment's place and says what its bytes are: [`Look::AtFrames`], or [`Look::Away`]. None when it
    /// takes more than that.
    #[inline(always)]
    pub fn pass_quietly(&mut self, direction: Direction, segment: &Segment) -> Option<Look> {
        if !self.is_quiet() || segment.fin || segment.rst {
            return None;
        }
        let other = &self.streams[direction.other() as usize];
        let mut awaited = other.through;
        match direction {
            Direction::Egress => {
                let acknowledged = other.position(segment.acknowledges);
                if acknowledged > other.cursor && acknowledged > other.edge {
                    return None;
                }
                if acknowledged > awaited {
                    awaited = acknowledged;
                }
            }
            Direction::Ingress if other.can_be_acknowledged(segment.acknowledges) => {}
            Direction::Ingress => return None,
        }
        let stream = &mut self.streams[direction as usize];
        let start = stream.position(segment.sequence);
        let end = start + u64::from(segment.length);
        if start > stream.through || start > stream.cursor {
            return None;
        }
        if end > stream.edge {
            stream.edge = end;
        }
        if end > stream.through {
            stream.through = end;
        }
        let look = if end <= stream.cursor {
            Look::Away
        } else {
            Look::AtFrames
        };
        self.streams[direction.other() as usize].through = awaited;
        Some(look)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use zerocopy::IntoBytes as _;

    use super::*;
    use crate::{model::Piece, socket::tests::open, stream::Next};

    /// What both ends send: frames of many lengths, and now and then a Close frame.
    fn bytes(direction: Direction, from: u32, length: u32) -> Vec<u8> {
        let masked = direction == Direction::Ingress;
        let base = if masked { 500 } else { 100 };
        let mut all = Vec::new();
        for number in 0..60_u8 {
            let close = number == 50;
            let payload = if close { 2 } else { number % 7 };
            all.push(if close { 0x88 } else { 0x82 });
            all.push(payload | u8::from(masked) << 7);
            all.extend([0; 4].iter().take(if masked { 4 } else { 0 }));
            all.extend([3, 0xe8].iter().cycle().take(payload.into()));
        }
        let bytes = (from..from + length).map(|sequence| {
            let at = sequence.checked_sub(base);
            at.and_then(|at| all.get(at as usize)).copied()
        });
        bytes.map(|byte| byte.unwrap_or(0x82)).collect()
    }

    fn read(socket: &mut Socket, direction: Direction, segment: &Segment) {
        let bytes = bytes(direction, segment.sequence, segment.length);
        let stream = socket.stream(direction);
        while stream.turn(segment, &Piece(&bytes)) == Next::Turn {}
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Segments in order and out of it, repeated, with right and wrong acknowledgements, FINs and RSTs: whoever
        /// takes the short way finds what the long one does.
        #[test]
        fn the_short_way_leads_where_the_long_one_does(
            steps in vec((any::<bool>(), 0..19_u32, 0..24_u32, 0..60_i32, 0..90_u32), 1..90),
        ) {
            let mut socket = open();
            let mut next = [100_u32, 500];
            for (egress, jump, length, behind, flag) in steps {
                let direction = if egress { Direction::Egress } else { Direction::Ingress };
                let (own, others) = (next[direction as usize], next[direction.other() as usize]);
                let segment = Segment {
                    // Mostly the next byte.
                    sequence: match jump {
                        0 => own - 5,
                        1 => own + 3,
                        _ => own,
                    },
                    // Now and then more than was sent.
                    acknowledges: others.wrapping_add_signed(if behind == 0 { 1 } else { -(behind % 4) }),
                    length,
                    awaited: own,
                    fin: flag == 0,
                    rst: flag == 1,
                    now_ns: 7,
                };
                next[direction as usize] = own.max(segment.sequence + length);
                let mut long = socket;
                let before = socket;
                match socket.pass_quietly(direction, &segment) {
                    Some(look) => {
                        prop_assert!(!long.awaits_reception());
                        let mut other_look = long.arrive(direction, &segment);
                        if other_look == Look::Early {
                            other_look = Look::Away;
                        }
                        prop_assert_eq!(look, other_look);
                        prop_assert_eq!(socket.as_bytes(), long.as_bytes());
                        if look == Look::AtFrames {
                            read(&mut socket, direction, &segment);
                        }
                        // What the short way leaves out then.
                        if socket.is_quiet() {
                            let facts = socket.facts();
                            let mut weighed = socket;
                            weighed.weigh_close_frames();
                            prop_assert_eq!(weighed.as_bytes(), socket.as_bytes());
                            prop_assert_eq!((facts, socket.lost()), (before.facts(), [0; 2]));
                        }
                    }
                    None => {
                        prop_assert_eq!(socket.as_bytes(), before.as_bytes());
                        if socket.awaits_reception() {
                            socket.weigh_reception(direction, &segment);
                        }
                        if socket.arrive(direction, &segment) == Look::AtFrames {
                            read(&mut socket, direction, &segment);
                        }
                    }
                }
                socket.weigh_close_frames();
            }
        }
    }
}
