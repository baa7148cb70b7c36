//! When ciphertext passed: which bytes of the connection hold what the library wrote last, and when they went
//! out; when the last ones came in, and whether the library was asked for them.
//!
//! In: what the library hands to its transport (its BIO), and the segments of the bound socket. The place
//! of one record in both tells that of every other.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where ciphertext is, in and out.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Wire {
    outlets: [Outlet; 2],
    /// The address behind what was written last.
    last_end: u64,
    /// Its first bytes, by which it is told from another that lay at the same place.
    last_first: u64,
    /// When the last byte of [`Wire::mark`] went out; 0 before.
    passed_ns: u64,
    /// When the furthest bytes came in that may hold plaintext.
    received_ns: u64,
    /// When bytes came in behind them that are as long as an alert: the first of them.
    alert_ns: u64,
    /// When the last call to read began that found nothing more.
    drained_ns: u64,
    /// When the last call to read returned.
    returned_ns: u64,
    last_length: u32,
    /// The end of what was written last, in bytes of its outlet.
    mark: u32,
    /// The sequence number behind the furthest bytes that came in that are as long as an alert.
    alert_edge: u32,
    /// Which outlet was written to last.
    current: u8,
    /// A call to read has begun and not returned.
    is_reading: u8,
    /// What the library writes goes out within the call: it writes to the connection itself, and reads from it.
    is_direct: u8,
    has_consumed: u8,
    /// How many came in behind [`Wire::received_ns`] that are as long as an alert.
    alerts: u8,
    /// A call to write has begun and not returned.
    is_writing: u8,
    /// Something went out since the session was bound.
    has_sent: u8,
    reserved: [u8; 1],
    /// The sequence number behind the furthest bytes that went out.
    sent_edge: u32,
    /// The sequence number behind the furthest bytes that may hold plaintext.
    record_edge: u32,
    /// The sequence number up to which the process has read the connection.
    consumed: u32,
}

/// One thing that the library writes to: the connection, or a buffer in front of it while it shakes hands.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct Outlet {
    /// Its address (`BIO *`).
    address: u64,
    /// Bytes written to it.
    written: u32,
    /// The sequence number of its first byte.
    base: u32,
    has_base: u8,
    /// The kernel makes the records (KTLS): their length is not known.
    is_opaque: u8,
    reserved: [u8; 6],
}

/// An alert's record of any version, and some more, in bytes.
const ALERT_MAX: i32 = 64;

/// What a segment that comes in may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Plaintext's records.
    Records = 0,
    /// One record that is no longer than an alert (RFC 8446 section 6), or than an empty Close frame.
    Alert = 1,
}

impl Wire {
    /// The library writes `length` bytes, which end in memory before `end` and begin with `first`, to the outlet at
    /// `address`. Their place among all that was written to it. `is_opaque`: they are no records. `moves`: what was
    /// written before need not be waited for any more.
    #[inline(always)]
    pub fn write(
        &mut self,
        address: u64,
        end: u64,
        length: u32,
        first: u64,
        is_opaque: bool,
        moves: bool,
    ) -> u32 {
        let mut number = self.number_of(address);
        if number > 1 {
            // Neither: the one that was not written to last is not needed any more.
            number = if self.current == 0 && self.outlets[0].address != 0 {
                1
            } else {
                0
            };
            self.outlets[number & 1] = Outlet {
                address,
                ..Outlet::default()
            };
        }
        let outlet = &mut self.outlets[number & 1];
        // What TCP did not take is offered again.
        let repeats = number == usize::from(self.current)
            && end == self.last_end
            && (length < self.last_length
                || (length == self.last_length && first == self.last_first));
        self.current = number as u8;
        if repeats {
            return outlet.written.wrapping_sub(length);
        }
        let at = outlet.written;
        outlet.written = at.wrapping_add(length);
        outlet.is_opaque |= u8::from(is_opaque);
        self.last_end = end;
        self.last_length = length;
        self.last_first = first;
        if moves {
            self.mark = at.wrapping_add(length);
            self.passed_ns = 0;
        }
        at
    }

    #[inline(always)]
    fn number_of(&self, address: u64) -> usize {
        if self.outlets[0].address == address {
            0
        } else if self.outlets[1].address == address {
            1
        } else {
            2
        }
    }

    /// A segment begins with the record that is at `at` of the outlet at `address`.
    #[inline(always)]
    pub fn found(&mut self, address: u64, at: u32, sequence: u32) {
        let number = self.number_of(address);
        if number > 1 {
            return;
        }
        let outlet = &mut self.outlets[number & 1];
        let base = sequence.wrapping_sub(at);
        if outlet.has_base == 0 || outlet.base != base {
            outlet.has_base = 1;
            outlet.base = base;
            if number == usize::from(self.current) {
                self.passed_ns = 0;
            }
        }
    }

    /// Whether the record that is at `at` of the outlet at `address` has gone out where the session is bound.
    #[inline(always)]
    #[must_use]
    pub fn has_gone_out(&self, address: u64, at: u32) -> bool {
        let number = self.number_of(address);
        if number > 1 {
            return false;
        }
        let outlet = &self.outlets[number & 1];
        let begin = outlet.base.wrapping_add(at);
        outlet.has_base != 0
            && self.has_sent != 0
            && self.sent_edge.wrapping_sub(begin).cast_signed() > 0
    }

    /// A segment that ends before `end` goes out. Whether it completes what was written last.
    #[inline(always)]
    pub fn go_out(&mut self, end: u32, now_ns: u64) -> bool {
        if self.has_sent == 0 || end.wrapping_sub(self.sent_edge).cast_signed() > 0 {
            self.sent_edge = end;
            self.has_sent = 1;
        }
        let outlet = &self.outlets[usize::from(self.current) & 1];
        if self.passed_ns != 0 || self.mark == 0 {
            return false;
        }
        let is_there = outlet.has_base != 0
            && end
                .wrapping_sub(outlet.base.wrapping_add(self.mark))
                .cast_signed()
                >= 0;
        if is_there || outlet.is_opaque != 0 {
            self.passed_ns = now_ns;
            return true;
        }
        false
    }

    /// A segment that ends before `end` comes in. What comes again, or late, counts from when it first came; what ends a
    /// session may come before what it ends.
    #[inline(always)]
    pub fn come_in(&mut self, end: u32, received: Received, now_ns: u64) {
        let is_behind = |edge: u32| end.wrapping_sub(edge).cast_signed() > 0;
        if self.received_ns != 0 && !is_behind(self.record_edge) {
            return;
        }
        let is_furthest = self.alerts == 0 || is_behind(self.alert_edge);
        if received == Received::Records {
            self.received_ns = now_ns;
            self.record_edge = end;
            if is_furthest {
                self.alerts = 0;
            }
        } else if is_furthest {
            if self.alerts == 0 {
                self.alert_ns = now_ns;
            }
            self.alert_edge = end;
            self.alerts = self.alerts.saturating_add(1);
        }
    }

    /// A call to read begins. False when another has not returned: what that gave is not known.
    #[inline(always)]
    pub fn begin_reading(&mut self) -> bool {
        let is_first = self.is_reading == 0;
        self.is_reading = 1;
        is_first
    }

    /// A call to read that began at `began_ns` returned, with plaintext or without.
    #[inline(always)]
    pub fn end_reading(&mut self, began_ns: u64, now_ns: u64, is_empty: bool) {
        self.is_reading = 0;
        self.returned_ns = now_ns;
        if is_empty {
            self.drained_ns = began_ns;
        }
    }

    /// A call to write begins. False when another has not returned: what that took is not known.
    #[inline(always)]
    pub fn begin_writing(&mut self) -> bool {
        let is_first = self.is_writing == 0;
        self.is_writing = 1;
        is_first
    }

    /// Whether a call to write has not returned: what it is about may have gone out.
    #[inline(always)]
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.is_writing != 0
    }

    /// A call to write that began at `began_ns` returned.
    #[inline(always)]
    pub fn end_writing(&mut self, began_ns: u64) {
        self.is_writing = 0;
        self.is_direct |= u8::from(self.passed_ns >= began_ns);
    }

    /// The process has read the connection up to a sequence number, and will read no more.
    #[inline(always)]
    pub fn note_consumed(&mut self, consumed: u32) {
        self.consumed = consumed;
        self.has_consumed = 1;
    }

    /// When the plaintext came in, `length` bytes of `asked`, that the library hands out at `now_ns`.
    #[inline(always)]
    #[must_use]
    pub fn came_in(&self, length: u32, asked: u64, now_ns: u64) -> u64 {
        // Who asked for no more may have got the beginning of a longer record.
        let is_whole = u64::from(length) < asked;
        let as_short_as_an_alert = length <= 2 && is_whole && self.alert_ns > self.received_ns;
        if as_short_as_an_alert {
            self.alert_ns
        } else if self.received_ns != 0 {
            self.received_ns
        } else {
            now_ns
        }
    }

    /// Whether something may have come in that the library has not handed out, when the connection has ended; with an RST
    /// of this end, or not.
    ///
    /// A process that reads the connection through its library reads one record at a time, and is handed it out at once.
    /// One that reads it itself puts the bytes into the library, and has read all when it asks once more and there is
    /// nothing. Who closes a connection without reading it whole sends an RST.
    #[inline(always)]
    #[must_use]
    pub fn has_unread(&self, rst: bool) -> bool {
        let ahead = self.record_edge.wrapping_sub(self.consumed).cast_signed();
        if self.has_consumed != 0 && self.received_ns != 0 && ahead > 0 {
            return true;
        }
        // One is the alert that ends every session (RFC 8446 section 6.1); of two, one may be a Close frame.
        if self.alerts > 1 && self.alert_ns > self.drained_ns {
            return true;
        }
        if self.is_direct != 0 && (self.has_consumed != 0 || !rst) {
            // Who read it did so where nobody looked.
            return self.is_reading == 0 && self.received_ns > self.returned_ns;
        }
        let is_waiting = self.is_reading != 0;
        !is_waiting && self.received_ns > self.drained_ns || rst && self.has_consumed == 0
    }

    /// Whether what came in last is as short as an alert, and the library has not handed out what it is: it may be a Close
    /// frame without a code. Behind this end's FIN, at `fin_ns` (0: none), it is the alert that answers that.
    #[inline(always)]
    #[must_use]
    pub fn has_unread_alert(&self, fin_ns: u64) -> bool {
        let answers_fin = self.alerts == 1 && fin_ns != 0 && fin_ns <= self.alert_ns;
        if self.alerts == 0 || answers_fin {
            return false;
        }
        if self.is_direct != 0 && self.has_consumed != 0 {
            return self.alert_edge.wrapping_sub(self.consumed).cast_signed() > 0;
        }
        self.is_reading == 0 && self.alert_ns > self.drained_ns
    }

    /// Whether more has gone out than was written where it is seen, and than the alert that ends the session.
    #[inline(always)]
    #[must_use]
    pub fn has_sent_unseen(&self) -> bool {
        let outlet = &self.outlets[usize::from(self.current) & 1];
        let written = outlet.base.wrapping_add(outlet.written);
        let beyond = self.sent_edge.wrapping_sub(written).cast_signed();
        outlet.has_base != 0 && outlet.is_opaque == 0 && self.has_sent != 0 && beyond > ALERT_MAX
    }

    /// When the last byte of what was written last went out; 0 when it has not.
    #[inline(always)]
    #[must_use]
    pub fn passed_ns(&self) -> u64 {
        self.passed_ns
    }

    /// Whether all that was written has gone out.
    #[inline(always)]
    #[must_use]
    pub fn has_all_gone_out(&self) -> bool {
        self.passed_ns != 0 || self.mark == 0
    }
}

#[cfg(test)]
mod tests;
