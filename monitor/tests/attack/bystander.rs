//! A connection of somebody else through the same cgroup, while others are under attack.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    attacker::{Attacker, PORT},
    connection::Both,
    sandbox::Sandbox,
    scene::Scene,
    turn,
};

/// What is sent, so that a byte that is missing, repeated or changed shows.
const PERIOD: usize = 65_521;
const MEBIBYTE: usize = 1 << 20;
const MEBIBYTES: u32 = 64;
const PINGS: u32 = 2_000;
const TINY_MEBIBYTES: u32 = 16;

fn pattern() -> Vec<u8> {
    let bytes = (0..PERIOD as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8);
    bytes.collect()
}

/// Sends so much and compares every byte that arrives.
pub(crate) fn transfer(mut from: TcpStream, mut to: TcpStream, mebibytes: usize) -> io::Result<()> {
    let total = mebibytes * MEBIBYTE;
    let sender = thread::spawn(move || -> io::Result<()> {
        let endless = pattern().repeat(MEBIBYTE / PERIOD + 2);
        let mut sent = 0;
        while sent < total {
            let at = sent % PERIOD;
            let some = MEBIBYTE.min(total - sent);
            from.write_all(&endless[at..at + some])?;
            sent += some;
        }
        Ok(())
    });
    let endless = pattern().repeat(3);
    let (mut received, mut some) = (0, vec![0; 2 * PERIOD]);
    loop {
        let count = to.read(&mut some)?;
        if count == 0 {
            break;
        }
        let expected = &endless[received % PERIOD..][..count];
        assert!(
            some[..count] == *expected,
            "a byte near {received} is another"
        );
        received += count;
    }
    sender.join().unwrap()?;
    assert_eq!(received, total, "bytes are missing");
    Ok(())
}

/// So many bytes there and back, one after the other: how long half of them and 99 of 100 took at most.
pub(crate) fn pings(
    mut here: TcpStream,
    mut there: TcpStream,
    count: usize,
) -> io::Result<(Duration, Duration)> {
    let echo = thread::spawn(move || -> io::Result<()> {
        let mut byte = [0];
        while there.read(&mut byte)? > 0 {
            there.write_all(&byte)?;
        }
        Ok(())
    });
    let mut times = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        here.write_all(b"p")?;
        here.read_exact(&mut [0])?;
        times.push(began.elapsed());
    }
    drop(here);
    echo.join().unwrap()?;
    times.sort_unstable();
    Ok((times[count / 2], times[count * 99 / 100]))
}

/// Frames of two bytes, in packets as long as they get, and then a Close frame.
pub(crate) fn tiny(mut both: Both, mebibytes: usize) -> io::Result<()> {
    let mut server = both.server.try_clone()?;
    let total = mebibytes * MEBIBYTE;
    let sender = thread::spawn(move || -> io::Result<()> {
        let frames = [0x82, 0].repeat(MEBIBYTE / 2);
        (0..mebibytes).try_for_each(|_| server.write_all(&frames))
    });
    let (mut received, mut some) = (0, vec![0; MEBIBYTE]);
    while received < total {
        let wanted = some.len().min(total - received);
        let count = both.client.read(&mut some[..wanted])?;
        assert!(count > 0, "bytes are missing");
        received += count;
    }
    sender.join().unwrap()?;
    both.end()
}

struct Measured {
    transfer: Duration,
    p50: Duration,
    p99: Duration,
}

impl Measured {
    /// While another attacker floods, if there is one.
    fn of(bystander: &mut Attacker, flood: Option<&mut Attacker>) -> Self {
        const FLOOD: &str = "flood 1000000";
        let mut flood = flood;
        if let Some(flood) = &mut flood {
            flood.begin(FLOOD);
            thread::sleep(Duration::from_millis(300));
        }
        let transfer = bystander.does(&format!("transfer {MEBIBYTES}"));
        bystander.begin(&format!("pings {PINGS}"));
        let line = bystander.await_line("pings ");
        let mut words = line.rsplit(' ').map(|word| word.parse().unwrap());
        let mut next = || Duration::from_secs_f64(words.next().unwrap());
        let (p99, p50) = (next(), next());
        bystander.finish(Duration::from_secs(60));
        Self { transfer, p50, p99 }
    }

    fn tell(&self, what: &str) {
        eprintln!(
            "{what}: {:.0} MiB/s, there and back in {:.0} µs, {:.0} µs for 99 of 100",
            f64::from(MEBIBYTES) / self.transfer.as_secs_f64(),
            self.p50.as_secs_f64() * 1e6,
            self.p99.as_secs_f64() * 1e6
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_bystander_is_not_held_up() {
    let _turn = turn();
    let alone = {
        let sandbox = Sandbox::new(1);
        Scene::give_addresses(&sandbox);
        let mut bystander = Attacker::start(&sandbox, PORT);
        let idle = Measured::of(&mut bystander, None);
        let mut flood = Attacker::start(&sandbox, PORT + 100);
        let attacked = Measured::of(&mut bystander, Some(&mut flood));
        [idle, attacked]
    };
    let scene = Scene::new();
    let mut bystander = scene.attacker(PORT);
    let idle = Measured::of(&mut bystander, None);
    let mut flood = scene.attacker(PORT + 100);
    let attacked = Measured::of(&mut bystander, Some(&mut flood));
    alone[0].tell("no daemon");
    idle.tell("a daemon");
    alone[1].tell("no daemon, a flood");
    attacked.tell("a daemon, a flood");
    let ratio = |with: &Measured, without: &Measured| {
        with.transfer.as_secs_f64() / without.transfer.as_secs_f64()
    };
    eprintln!(
        "transfer takes {:.2} times as long with a daemon, {:.2} in a flood",
        ratio(&idle, &alone[0]),
        ratio(&attacked, &alone[1])
    );
    // Every byte came. The rest is noise on a machine with two CPUs, and what no noise explains a fault.
    assert!(ratio(&attacked, &alone[1]) < 10.0);
    assert!(
        attacked.p50 < Duration::from_millis(50),
        "{:?}",
        attacked.p50
    );
}

/// 32,768 frames in a packet: more than are read, so that no packet waits for long.
#[test]
#[ignore = "needs root"]
fn packets_full_of_frames_take_bounded_time() {
    let _turn = turn();
    let scene = Scene::new();
    let mut attacker = scene.attacker(PORT);
    let took = attacker.does(&format!("tiny {TINY_MEBIBYTES}"));
    let packets = TINY_MEBIBYTES * 16;
    let each = took / packets;
    scene.await_records(2);
    let budget = scene.count("closewatch_streams_lost_total", &["budget"]);
    eprintln!(
        "{packets} packets full of frames: {each:?} each, both ends; {budget} directions lost"
    );
    assert!(each < Duration::from_millis(40), "{each:?} a packet");
    for record in scene.records() {
        let frames = &record["frames_sent"];
        assert!(frames.is_null() || record["role"] == "client", "{record}");
        let outcome = &record["outcome"];
        assert!(outcome.is_null() || outcome == "clean", "{record}");
    }
}
