//! tcpdump inside a namespace, and what it wrote.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{peers::end_process, sandbox::Sandbox, tcp::Packet};

/// The hop limit by which `hostile.py` marks what it forges: a witness believes what TCP believes.
const FORGED: u8 = 77;

/// The ring between kernel and tcpdump, in KiB: more than any test sends, because the peers run before tcpdump
/// where CPUs are few. On loopback each packet is in it twice.
const RING: &str = "196608";

static SENTINELS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Capture {
    tcpdump: Child,
    messages: BufReader<ChildStderr>,
    /// Where the packets are, for as long as the sandbox is.
    pub(crate) file: PathBuf,
    namespace: usize,
    sentinel_to: &'static str,
}

impl Capture {
    /// Captures all TCP on the device, from the return of this function on. A datagram to
    /// `sentinel_to` must pass the device.
    pub(crate) fn start(
        sandbox: &Sandbox,
        namespace: usize,
        device: &str,
        sentinel_to: &'static str,
    ) -> Capture {
        let file = sandbox.path(&format!("{namespace}-{device}.pcap"));
        let mut command = sandbox.command("/usr/bin/tcpdump", namespace, false);
        // Not in immediate mode: its ring holds 256 packets of the size that loopback allows, where
        // this one packs them. The sentinel says when everything before it has been written.
        command
            .args([
                "-i", device, "-n", "-U", "-B", RING, "-s", "262144", "-Z", "root",
            ])
            .args(["--time-stamp-precision=nano", "-w"])
            .arg(&file)
            .args(["tcp", "or", "ip6", "or", "udp", "port", "9"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut tcpdump = command
            .spawn()
            .expect("tcpdump is missing: `cargo xtask test` installs it");
        let messages = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut capture = Capture {
            tcpdump,
            messages,
            file,
            namespace,
            sentinel_to,
        };
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            let length = capture.messages.read_line(&mut line).unwrap();
            assert!(length > 0, "tcpdump ended before it captured");
        }
        capture.await_sentinel(sandbox);
        capture
    }

    /// A process inside the namespace, as long as the capture runs.
    pub(crate) fn pid(&self) -> u32 {
        self.tcpdump.id()
    }

    /// Everything that has passed until now. `CLOSEWATCH_CAPTURES` names a directory that keeps it.
    pub(crate) fn finish(mut self, sandbox: &Sandbox) -> Vec<Packet> {
        self.await_sentinel(sandbox);
        end_process(&mut self.tcpdump, libc::SIGINT, Duration::from_secs(5));
        let mut report = String::new();
        self.messages.read_to_string(&mut report).unwrap();
        let complete = report
            .lines()
            .any(|line| line == "0 packets dropped by kernel");
        assert!(
            complete,
            "the capture has holes, so it proves nothing: {report}"
        );
        if let Some(directory) = env::var_os("CLOSEWATCH_CAPTURES") {
            let name = self.file.file_name().unwrap();
            let name = format!("{}-{}", &sandbox.cgroup[1..], name.display());
            fs::copy(&self.file, Path::new(&directory).join(name)).unwrap();
        }
        read(&self.file)
    }

    fn await_sentinel(&self, sandbox: &Sandbox) {
        let number = SENTINELS.fetch_add(1, Ordering::Relaxed);
        let text = format!("closewatch sentinel {number}.");
        let mut seen = fs::metadata(&self.file).map_or(0, |file| file.len() as usize);
        sandbox.send_datagram(self.namespace, &text, self.sentinel_to);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let bytes = fs::read(&self.file).unwrap_or_default();
            if bytes[seen..]
                .windows(text.len())
                .any(|window| window == text.as_bytes())
            {
                return;
            }
            seen = bytes.len().saturating_sub(text.len());
            assert!(
                Instant::now() < deadline,
                "the capture does not see its sentinel"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        end_process(&mut self.tcpdump, libc::SIGKILL, Duration::from_secs(5));
    }
}

/// Reads a little-endian nanosecond pcap file of Ethernet or bare IP packets.
fn read(path: &Path) -> Vec<Packet> {
    let bytes = fs::read(path).unwrap();
    let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    assert_eq!(word(0), 0xa1b2_3c4d, "a pcap file in nanoseconds");
    let skip = match word(20) {
        1 => 14,
        101 => 0,
        other => panic!("link type {other}"),
    };
    let mut packets = Vec::new();
    let mut at = 24;
    while at + 16 <= bytes.len() {
        let time = i64::from(word(at)) * 1_000_000_000 + i64::from(word(at + 4));
        let (captured, length) = (word(at + 8) as usize, word(at + 12));
        assert_eq!(captured, length as usize, "a packet was cut by the capture");
        let frame = &bytes[at + 16..at + 16 + captured];
        packets.extend(packet(time, &frame[skip..]));
        at += 16 + captured;
    }
    packets
}

/// None for what is not TCP, or forged. The length comes from the capture: a packet that was never cut into
/// segments may be longer than its IP header can say.
fn packet(at: i64, ip: &[u8]) -> Option<Packet> {
    let address4 = |at: usize| IpAddr::V4(Ipv4Addr::from(*ip[at..].first_chunk::<4>().unwrap()));
    let address6 = |at: usize| IpAddr::V6(Ipv6Addr::from(*ip[at..].first_chunk::<16>().unwrap()));
    let (source, destination, protocol, tcp) = match ip[0] >> 4 {
        4 => (
            address4(12),
            address4(16),
            ip[9],
            &ip[usize::from(ip[0] & 15) * 4..],
        ),
        6 => {
            let (mut next, mut at) = (ip[6], 40);
            // Hop-by-hop (which announces a jumbo packet, too), destination, and the header of a fragment that is whole.
            while [0, 60, 44].contains(&next) {
                let words = if next == 44 {
                    1
                } else {
                    usize::from(ip[at + 1]) + 1
                };
                next = ip[at];
                at += 8 * words;
            }
            (address6(8), address6(24), next, &ip[at..])
        }
        version => panic!("IP version {version}"),
    };
    if protocol != 6 || (ip[0] >> 4 == 4 && ip[8] == FORGED) {
        return None;
    }
    let word = |at: usize| u32::from_be_bytes(*tcp[at..].first_chunk().unwrap());
    let port = |at: usize| u16::from_be_bytes(*tcp[at..].first_chunk().unwrap());
    let flags = tcp[13];
    Some(Packet {
        at,
        source: SocketAddr::new(source, port(0)),
        destination: SocketAddr::new(destination, port(2)),
        sequence: word(4),
        acknowledgement: word(8),
        fin: flags & 1 != 0,
        syn: flags & 2 != 0,
        rst: flags & 4 != 0,
        ack: flags & 16 != 0,
        payload: tcp[usize::from(tcp[12] >> 4) * 4..].to_vec(),
    })
}
