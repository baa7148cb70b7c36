//! Captured packets → both byte streams of each TCP connection, and when each byte passed.
//!
//! Retransmissions fall out: only the first packet that carried a byte, a FIN or an RST counts.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

/// One TCP segment as captured. Times are nanoseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) at: i64,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) payload: Vec<u8>,
}

/// Something an end sent, and what it had received by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) at: i64,
    /// The stream position after it; a FIN takes one, and so does an RST, which nobody answers.
    pub(crate) end: u64,
    /// The position of the other stream that its packet acknowledged.
    pub(crate) acknowledged: u64,
}

impl Moment {
    /// Whether the two were under way at the same time: the later did not know of the earlier.
    pub(crate) fn crosses(self, other: Moment) -> bool {
        let (earlier, later) = if self.at <= other.at {
            (self, other)
        } else {
            (other, self)
        };
        later.acknowledged < earlier.end
    }
}

/// What one end sent.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fin: Option<Moment>,
    pub(crate) rst: Option<Moment>,
    /// Some packet passed before one that it should have followed.
    pub(crate) disordered: bool,
    /// What went on where the one before ended.
    packets: Vec<Moment>,
    /// Every packet with payload: where that begins, and the packet.
    carriers: Vec<(u64, Moment)>,
    /// By start and end: a retransmission may be longer than what it repeats.
    pending: BTreeMap<(usize, usize), (Moment, Vec<u8>)>,
    origin: Option<u32>,
    /// Where `bytes` are what TLS carried: the end of each record with some of them, there and on the wire.
    records: Option<Vec<(usize, usize)>>,
}

impl Stream {
    /// What TLS carried in this stream: its bytes, and of each record that has some of them the end, among them
    /// and on the wire. A byte passes with the last one of its record.
    #[allow(dead_code, reason = "only the tests of TLS decrypt")]
    pub(crate) fn decrypted(self, bytes: Vec<u8>, records: Vec<(usize, usize)>) -> Stream {
        Stream {
            bytes,
            records: Some(records),
            ..self
        }
    }

    pub(crate) fn is_decrypted(&self) -> bool {
        self.records.is_some()
    }

    /// The first packet that carried the last of the first `end` bytes.
    pub(crate) fn passed(&self, end: usize) -> Moment {
        let end = match &self.records {
            None => end,
            Some(records) => records[records.partition_point(|&(inside, _)| inside < end)].1,
        } as u64;
        let carries = |(start, packet): &&(u64, Moment)| *start < end && end <= packet.end;
        // They are in the order in which they passed.
        let (_, packet) = self.carriers.iter().find(carries).unwrap();
        Moment { end, ..*packet }
    }

    /// How many packets, or records of TLS, carried the bytes in this range.
    pub(crate) fn packets_in(&self, from: usize, to: usize) -> usize {
        if let Some(records) = &self.records {
            let before = records.partition_point(|&(inside, _)| inside <= from);
            return records.partition_point(|&(inside, _)| inside < to) - before + 1;
        }
        let before = self
            .packets
            .partition_point(|packet| packet.end <= from as u64);
        let within = self
            .packets
            .partition_point(|packet| packet.end < to as u64);
        within - before + 1
    }

    fn position(&self, sequence: u32) -> i64 {
        // The streams of the tests are far shorter than 2³¹ bytes.
        self.origin
            .map_or(0, |origin| i64::from(sequence.wrapping_sub(origin) as i32))
    }

    fn add(&mut self, packet: &Packet, acknowledged: u64) {
        if packet.syn {
            self.origin.get_or_insert(packet.sequence.wrapping_add(1));
            return;
        }
        let start = self.position(packet.sequence);
        let end = start + packet.payload.len() as i64;
        let moment = |end: i64| Moment {
            at: packet.at,
            end: end.max(0) as u64,
            acknowledged,
        };
        if packet.fin && self.fin.is_none() {
            self.fin = Some(moment(end + 1));
        }
        if packet.rst && self.rst.is_none() {
            self.rst = Some(moment(end + 1));
        }
        if start >= 0 && !packet.payload.is_empty() {
            self.disordered |= start > self.bytes.len() as i64;
            self.carriers.push((start as u64, moment(end)));
            let entry = (moment(end), packet.payload.clone());
            let place = (start as usize, end as usize);
            self.pending.entry(place).or_insert(entry);
        }
        while let Some(entry) = self.pending.first_entry() {
            let (start, _) = *entry.key();
            if start > self.bytes.len() {
                break;
            }
            let (moment, payload) = entry.remove();
            let known = self.bytes.len() - start;
            if known < payload.len() {
                self.bytes.extend_from_slice(&payload[known..]);
                self.packets.push(moment);
            }
        }
    }
}

/// One TCP connection. The client is the end that sent the SYN.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) sent_by_client: Stream,
    pub(crate) sent_by_server: Stream,
}

/// Every connection of the capture, in the order of their SYNs.
pub(crate) fn connections(packets: &[Packet]) -> Vec<Connection> {
    let mut connections: Vec<Connection> = Vec::new();
    let mut current: HashMap<(SocketAddr, SocketAddr), usize> = HashMap::new();
    for packet in packets {
        let ends = (packet.source, packet.destination);
        if packet.syn && !packet.ack {
            let known = current.get(&ends).map(|&index| &connections[index]);
            let origin = packet.sequence.wrapping_add(1);
            if known.is_none_or(|known| known.sent_by_client.origin != Some(origin)) {
                current.insert(ends, connections.len());
                connections.push(Connection {
                    client: packet.source,
                    server: packet.destination,
                    sent_by_client: Stream::default(),
                    sent_by_server: Stream::default(),
                });
            }
        }
        let (index, from_client) = match (current.get(&ends), current.get(&(ends.1, ends.0))) {
            (Some(&index), _) => (index, true),
            (None, Some(&index)) => (index, false),
            (None, None) => continue,
        };
        let connection = &mut connections[index];
        let (sender, receiver) = if from_client {
            (&mut connection.sent_by_client, &connection.sent_by_server)
        } else {
            (&mut connection.sent_by_server, &connection.sent_by_client)
        };
        // A reset in answer to a stray segment carries no acknowledgement: it knows that segment.
        let acknowledged = if packet.ack {
            receiver.position(packet.acknowledgement).max(0) as u64
        } else {
            u64::MAX
        };
        sender.add(packet, acknowledged);
    }
    connections
}
