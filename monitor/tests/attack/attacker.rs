//! The attacker's program: this test binary, started again inside the cgroup and the network namespace.
//!
//! It does what it is told, a line at a time, and says `done` with the seconds that it took.

use std::{
    env,
    io::{self, Write, stdin},
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use crate::{
    bystander::{pings, tiny, transfer},
    connection::{Both, listen},
    peers::Peer,
    sandbox::{Plays, Sandbox},
    sockets,
    spoofed::{guesses, strays, syns},
    text::texts,
};

const ROLE: &str = "CLOSEWATCH_TEST_ATTACKER";
/// Listens on this many ports, so that each address is so many servers.
const PORTS: u16 = 4;
/// The first of them.
pub(crate) const PORT: u16 = 9000;

/// An attacker that waits for orders. `port` is the first that it listens on.
pub(crate) struct Attacker(Peer);

impl Attacker {
    pub(crate) fn start(sandbox: &Sandbox, port: u16) -> Self {
        let mut command = sandbox.command(env::current_exe().unwrap(), 0, true);
        command.args([
            "--exact",
            "attacker::attacker",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(ROLE, port.to_string());
        Self(Peer::start(sandbox, command, Plays::Both))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Gives an order, and does not wait.
    pub(crate) fn begin(&mut self, order: &str) {
        self.0.tell(order);
    }

    /// The next line that contains the text.
    pub(crate) fn await_line(&self, text: &str) -> String {
        self.0.await_line_within(text, Duration::from_secs(60))
    }

    /// Waits until what was ordered is done; says how long that took.
    pub(crate) fn finish(&self, within: Duration) -> Duration {
        let line = self.0.await_line_within("done ", within);
        let seconds = line.rsplit(' ').next().unwrap().parse().unwrap();
        Duration::from_secs_f64(seconds)
    }

    pub(crate) fn does(&mut self, order: &str) -> Duration {
        self.begin(order);
        self.finish(Duration::from_secs(600))
    }
}

/// Not a test: the attacker's program. It does nothing unless a scenario starts it.
#[test]
fn attacker() {
    let Ok(port) = env::var(ROLE) else { return };
    share_the_machine();
    let mut hands = Hands::new(port.parse().unwrap());
    say("ready");
    for order in stdin().lines().map_while(Result::ok) {
        let began = Instant::now();
        let words: Vec<&str> = order.split(' ').collect();
        if words == ["go"] {
            continue;
        }
        hands
            .obey(&words)
            .unwrap_or_else(|error| panic!("{order}: {error}"));
        say(&format!("done {}", began.elapsed().as_secs_f64()));
    }
}

fn say(text: &str) {
    let mut out = io::stdout();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}

/// The peers of other tests go before everything else on one CPU; a flood would starve the machine.
fn share_the_machine() {
    // SAFETY: plain integers go in, about this process alone; the kernel reads the two structures, which
    // live until the calls return.
    unsafe {
        let normal = libc::sched_param { sched_priority: 0 };
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const normal);
        let mut every: libc::cpu_set_t = std::mem::zeroed();
        for cpu in 0..libc::CPU_SETSIZE as usize {
            libc::CPU_SET(cpu, &mut every);
        }
        libc::sched_setaffinity(0, size_of_val(&every), &raw const every);
        let files = libc::rlimit {
            rlim_cur: 1_000_000,
            rlim_max: 1_000_000,
        };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files);
    }
}

/// What the program holds.
struct Hands {
    port: u16,
    listeners: Vec<TcpListener>,
    /// Connections that go on, by what they are.
    begun: Vec<Both>,
    waiting: Vec<Both>,
    open: Vec<Both>,
    /// The number of the next connection.
    next: u32,
}

impl Hands {
    fn new(port: u16) -> Self {
        let ports = port..port + PORTS;
        Self {
            port,
            listeners: ports.map(|port| listen(port).unwrap()).collect(),
            begun: Vec::new(),
            waiting: Vec::new(),
            open: Vec::new(),
            next: 0,
        }
    }

    fn obey(&mut self, order: &[&str]) -> io::Result<()> {
        match order {
            // Opens so many and ends each at once.
            ["flood", count] => self.each(count, |_, mut both| {
                both.ask()?;
                both.answer()?;
                both.end()
            }),
            // Begins requests that never end, and keeps the connections.
            ["begin", count] => self.each(count, |hands, mut both| {
                both.client
                    .write_all(b"GET / HTTP/1.1\r\nHost: half.test\r\nX: ")?;
                hands.begun.push(both);
                Ok(())
            }),
            // Goes on with each, one byte.
            ["drip"] => {
                let mut begun = self.begun.iter_mut();
                begun.try_for_each(|both| both.client.write_all(b"x"))
            }
            ["leave"] => {
                self.begun.clear();
                Ok(())
            }
            // Asks whole, and the server lets them wait.
            ["ask", count] => self.each(count, |hands, mut both| {
                both.ask()?;
                hands.waiting.push(both);
                Ok(())
            }),
            // Answers all who wait.
            ["answer"] => {
                for mut both in self.waiting.drain(..) {
                    both.answer()?;
                    self.open.push(both);
                }
                Ok(())
            }
            // Ends all that are open.
            ["end"] => self.open.drain(..).try_for_each(Both::end),
            // Opens so many to one server, each under another name.
            ["names", count] => {
                for number in 0..count.parse().unwrap() {
                    let mut both = self.visit(number)?;
                    both.ask()?;
                    both.answer()?;
                    both.end()?;
                }
                Ok(())
            }
            // Opens so many to one server and leaves them open.
            ["visit", count] => {
                for number in 0..count.parse().unwrap() {
                    let mut both = self.visit(number)?;
                    both.ask()?;
                    both.answer()?;
                    self.open.push(both);
                }
                Ok(())
            }
            // One connection for each text that means no good, in every field that is recorded.
            ["texts"] => {
                for (number, text) in (0..).zip(texts()) {
                    let mut both = self.visit(4 * number)?;
                    both.ask_for(&text, &text)?;
                    both.answer_as(&text[..text.len().min(8_000)])?;
                    self.open.push(both);
                }
                Ok(())
            }
            ["transfer", mebibytes] => {
                let both = self.visit(0)?;
                transfer(both.client, both.server, mebibytes.parse().unwrap())
            }
            ["pings", count] => {
                let both = self.visit(0)?;
                let (p50, p99) = pings(both.client, both.server, count.parse().unwrap())?;
                say(&format!(
                    "pings {} {}",
                    p50.as_secs_f64(),
                    p99.as_secs_f64()
                ));
                Ok(())
            }
            // Packets as full of frames as can be.
            ["tiny", mebibytes] => {
                let mut both = self.visit(0)?;
                both.ask()?;
                both.answer()?;
                tiny(both, mebibytes.parse().unwrap())
            }
            ["strays", count] => strays(count.parse().unwrap(), self.port),
            ["syns", count] => syns(count.parse().unwrap(), self.port),
            ["guesses", count] => guesses(count.parse().unwrap(), &self.open),
            ["mptcp"] => sockets::mptcp(self.port),
            ["fast-open"] => sockets::fast_open(self.port),
            ["deaf-for-a-while"] => sockets::deaf(self.port, true),
            ["deaf"] => sockets::deaf(self.port, false),
            _ => panic!("an order nobody knows: {order:?}"),
        }
    }

    /// A connection to the one server that all of these go to.
    fn visit(&self, number: u32) -> io::Result<Both> {
        let [.., c, d] = number.to_be_bytes();
        let to = (Ipv4Addr::new(127, 16, 0, 1), self.port).into();
        let from = (Ipv4Addr::new(127, 64, c, d), 0).into();
        Both::between(&self.listeners[0], (to, from), number)
    }

    /// Does something with so many new connections, one after the other.
    fn each(
        &mut self,
        count: &str,
        mut act: impl FnMut(&mut Self, Both) -> io::Result<()>,
    ) -> io::Result<()> {
        for _ in 0..count.parse::<u32>().unwrap() {
            let (number, of_port) = (self.next, self.next as u16 % PORTS);
            self.next += 1;
            let listener = &self.listeners[usize::from(of_port)];
            let both = Both::connect(listener, self.port + of_port, number)?;
            act(self, both)?;
        }
        Ok(())
    }
}
