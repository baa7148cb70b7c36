//! Reads the IP and TCP headers of a packet, and hands out its payload.
//!
//! The headers lie in the linear part and are read in place; payload mostly lies in fragments and is
//! copied by a helper. Lengths come from `skb->len`: a packet of segmentation offload is longer
//! than an IPv4 header can say.

use core::ptr;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_load_bytes},
};
use monitor_ebpf::{
    frame::HEADER_MAX,
    socket::Direction,
    stream::{Payload, Segment},
    window::{Bulk, WINDOW},
};

use crate::source::Source;

const TCP: u8 = 6;
/// IPv6 extension headers that may stand before TCP: hop-by-hop (BIG TCP), routing, destination, and the fragment header
/// of a packet that is whole (RFC 6946), which the kernel leaves where it is.
const EXTENSIONS: [u8; 4] = [0, 43, 60, FRAGMENT];
const FRAGMENT: u8 = 44;
const EXTENSIONS_MAX: usize = 4;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// A TCP packet.
pub(crate) struct Packet {
    pub(crate) body: Body,
    pub(crate) segment: Segment,
    source_port: u16,
    destination_port: u16,
    flags: u8,
}

/// The payload of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Body {
    pub(crate) skb: *mut __sk_buff,
    /// Where it begins.
    at: u32,
}

/// What a global function is told of a packet besides its context: such functions take nothing but
/// numbers (pointers from Linux 5.13 on), and headers are better read once.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    /// The sequence number, and above it the length.
    pub(crate) place: u64,
    /// When it passed.
    pub(crate) now_ns: u64,
    /// Where the payload begins, and above it the direction.
    pub(crate) way: u64,
}

impl Packet {
    /// None when it is not TCP.
    #[inline(always)]
    pub(crate) fn read(skb: *mut __sk_buff) -> Option<Self> {
        let tcp_at = tcp_offset(skb)?;
        let header: [u8; 14] = read(skb, tcp_at)?;
        let payload_at = tcp_at as u32 + (u32::from(header[12] >> 4) << 2);
        let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        // SAFETY: the kernel hands the hook a context whose fields may be read.
        let length = unsafe { (*skb).len };
        let flags = header[13];
        // A SYN takes up one sequence number; TCP Fast Open puts payload behind it.
        let sequence = sequence.wrapping_add(u32::from(flags & SYN != 0));
        Some(Self {
            body: Body {
                skb,
                at: payload_at,
            },
            source_port: u16::from_be_bytes([header[0], header[1]]),
            destination_port: u16::from_be_bytes([header[2], header[3]]),
            flags,
            segment: Segment {
                sequence,
                acknowledges: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
                length: length.saturating_sub(payload_at),
                awaited: sequence,
                fin: flags & FIN != 0,
                rst: flags & RST != 0,
                now_ns: 0,
            },
        })
    }

    /// When it passes: now, unless that was asked before.
    #[inline(always)]
    pub(crate) fn ask_when(&mut self) -> u64 {
        self.segment.now_ns = or_now(self.segment.now_ns);
        self.segment.now_ns
    }

    /// Nothing in it that could matter to anyone here.
    #[inline(always)]
    pub(crate) fn is_pure_ack(&self) -> bool {
        self.segment.length == 0 && !self.segment.fin && !self.segment.rst
    }

    /// Begins a connection; may carry payload all the same (TCP Fast Open).
    #[inline(always)]
    pub(crate) fn is_syn(&self) -> bool {
        self.flags & SYN != 0
    }

    /// Has a byte among its payload, or announces one, that an application reads in its place or does not, by its
    /// own choice (SO_OOBINLINE).
    #[inline(always)]
    pub(crate) fn is_urgent(&self) -> bool {
        self.flags & URG != 0
    }

    /// TCP takes only an RST without an acknowledgement (RFC 9293 section 3.10.7.4).
    #[inline(always)]
    pub(crate) fn acknowledges(&self) -> bool {
        self.flags & ACK != 0
    }

    /// The packet for a global function.
    #[inline(always)]
    pub(crate) fn numbers(&self, direction: Direction) -> Numbers {
        Numbers {
            place: place(&self.segment),
            now_ns: self.segment.now_ns,
            way: u64::from(self.body.at) | (direction as u64) << 32,
        }
    }

    /// A number for the remote end and a place in what it sends, for a socket that does not exist
    /// yet. The highest bit tells it from a cookie. The remote end's 32-bit sequence number is part of
    /// it, so the same address and port in another network namespace makes another number.
    #[inline(always)]
    pub(crate) fn remote_place(&self, direction: Direction, sequence: u32) -> Option<u64> {
        let port = match direction {
            Direction::Ingress => self.source_port,
            Direction::Egress => self.destination_port,
        };
        let ip: [u8; 20] = read(self.body.skb, 0)?;
        let mut place = u64::from(port) << 32 | u64::from(sequence);
        if ip[0] >> 4 == 4 {
            let at = if direction == Direction::Ingress {
                12
            } else {
                16
            };
            place = mix(place, read(self.body.skb, at)?);
        } else {
            let at = if direction == Direction::Ingress {
                8
            } else {
                24
            };
            let address: [u32; 4] = read(self.body.skb, at)?;
            for word in address {
                place = mix(place, word);
            }
        }
        Some(place | 1 << 63)
    }
}

impl Numbers {
    /// The same packet again, as far as frames matter.
    #[inline(always)]
    pub(crate) fn packet(self, skb: *mut __sk_buff) -> (Body, Segment, Direction) {
        let body = Body {
            skb,
            at: self.way as u32,
        };
        (
            body,
            segment(self.place, self.now_ns),
            direction(self.way >> 32),
        )
    }
}

/// A segment's sequence number, and above it the length.
#[inline(always)]
pub(crate) fn place(segment: &Segment) -> u64 {
    u64::from(segment.sequence) | u64::from(segment.length) << 32
}

/// The segment at a [`place`], as far as frames matter.
#[inline(always)]
pub(crate) fn segment(place: u64, now_ns: u64) -> Segment {
    Segment {
        sequence: place as u32,
        length: (place >> 32) as u32,
        awaited: place as u32,
        acknowledges: 0,
        fin: false,
        rst: false,
        now_ns,
    }
}

/// The direction that is in the lowest bit.
#[inline(always)]
pub(crate) fn direction(way: u64) -> Direction {
    if way & 1 == Direction::Egress as u64 {
        Direction::Egress
    } else {
        Direction::Ingress
    }
}

impl Source for Body {
    #[inline(always)]
    unsafe fn copy<const MAX: u32>(&self, offset: u32, into: *mut u8, length: u32) -> bool {
        let length = clamp::<MAX>(length);
        // SAFETY: the helper checks the packet's bounds, the verifier those of `into`.
        unsafe { bpf_skb_load_bytes(self.skb.cast(), self.at + offset, into.cast(), length) == 0 }
    }
}

impl Payload for Body {
    #[inline(always)]
    fn load(&self, offset: u32, into: &mut [u8]) -> bool {
        // SAFETY: `clamp` changes nothing of a length that the trait allows.
        unsafe { self.copy::<{ HEADER_MAX as u32 }>(offset, into.as_mut_ptr(), into.len() as u32) }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        now_ns()
    }
}

impl Bulk for Body {
    #[inline(always)]
    fn fill(&self, offset: u32, into: &mut [u8; WINDOW], length: u32) -> bool {
        // SAFETY: as above.
        unsafe { self.copy::<{ WINDOW as u32 }>(offset, into.as_mut_ptr(), length) }
    }
}

/// Spreads what differs over all bits: the multiplier is 2⁶⁴ divided by the golden ratio.
#[inline(always)]
fn mix(value: u64, word: u32) -> u64 {
    (value ^ u64::from(word))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

/// Nanoseconds since boot, time in suspend included.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: takes nothing, touches nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A time that was asked for, or else now.
#[inline(always)]
pub(crate) fn or_now(asked_ns: u64) -> u64 {
    if asked_ns == 0 { now_ns() } else { asked_ns }
}

/// `value`, but at least 1 and at most `MAX`, in a form that the verifier takes for a proof: it
/// follows a compare of the very register that is handed to the helper, and not the one of the
/// value that it was copied from, which the optimiser would leave.
#[inline(always)]
pub(crate) fn clamp<const MAX: u32>(value: u32) -> u32 {
    let mut bounded = u64::from(value);
    // SAFETY: compares and sets one register.
    unsafe {
        core::arch::asm!(
            "if {n} > {max} goto 1f",
            "if {n} > 0 goto 2f",
            "{n} = 1",
            "goto 2f",
            "1:",
            "{n} = {max}",
            "2:",
            n = inout(reg) bounded,
            max = const MAX,
            options(pure, nomem, nostack),
        );
    }
    bounded as u32
}

#[inline(always)]
fn tcp_offset(skb: *mut __sk_buff) -> Option<usize> {
    let ip: [u8; 20] = read(skb, 0)?;
    if ip[0] >> 4 == 4 {
        return (ip[9] == TCP).then_some(usize::from(ip[0] & 0x0f) << 2);
    }
    let mut next = ip[6];
    let mut at = 40;
    for _ in 0..EXTENSIONS_MAX {
        if next == TCP {
            return Some(at);
        }
        if !EXTENSIONS.contains(&next) {
            return None;
        }
        let extension: [u8; 2] = read(skb, at)?;
        // Where others have their length, the fragment header has a reserved byte.
        let more = if next == FRAGMENT { 0 } else { extension[1] };
        next = extension[0];
        at += (usize::from(more) + 1) << 3;
    }
    (next == TCP).then_some(at)
}

/// Reads a value from the linear part; none when it does not lie there whole.
#[inline(always)]
fn read<T: Copy>(skb: *mut __sk_buff, at: usize) -> Option<T> {
    // SAFETY: the kernel sets both fields to the bounds of the linear part, and the verifier lets
    // no read pass that is not proved to lie between them.
    unsafe {
        let start = (*skb).data as usize + at;
        if start + size_of::<T>() > (*skb).data_end as usize {
            return None;
        }
        Some(ptr::read_unaligned(start as *const T))
    }
}
