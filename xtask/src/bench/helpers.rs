//! The floor of what closewatch's programs are made of: what each call of the kernel's takes by itself, in programs that
//! do nothing else. They run behind closewatch's on the same packets, so what they touch is in the CPU's caches.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use super::{
    Bench,
    bpf::{Attached, Clock, Hook, Instruction, PASS, runs},
    figures::{Figure, Turns},
    load::Traffic,
    place::Under,
    ring::{SK_STORAGE, map_of},
    watching::Watching,
};

// Kernel: `struct __sk_buff`, include/uapi/linux/bpf.h.
const SKB_DATA: i16 = 76;
const SKB_DATA_END: i16 = 80;
const SKB_SK: i16 = 168;
/// Behind the headers of IPv4 and of TCP with timestamps.
const PAYLOAD: i32 = 52;

/// One of these things, at both hooks, and its ns a run in every turn.
struct Primitive {
    name: &'static str,
    hooks: [Attached; 2],
    turns: Turns,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let (turns, milliseconds) = bench.size.choose((3, 60), (25, 200));
    let mut watching = Watching::start(&bench.place, &bench.interrupt, &bench.log(), &[])?;
    let sockets = map_of(watching.daemon.id(), SK_STORAGE)?;
    let cgroup = bench.place.of(Under::Closewatch);
    let mut primitives = Vec::new();
    for (name, code) in codes(&sockets) {
        let attach = |hook| Attached::new(&cgroup, hook, &code).context(name);
        primitives.push(Primitive {
            name,
            hooks: [attach(Hook::Egress)?, attach(Hook::Ingress)?],
            turns: Turns::default(),
        });
    }
    let clock = Clock::start()?;
    for _ in 0..turns {
        bench.go_on()?;
        let before: Result<Vec<_>> = primitives.iter().map(Primitive::runs).collect();
        let words = ["single", &Traffic::Small.word(), &milliseconds.to_string()];
        bench.place.load(Under::Closewatch, &words)?;
        for (primitive, before) in primitives.iter_mut().zip(before?) {
            let after = primitive.runs()?;
            let of_a_run = (after[1] - before[1]) / (after[0] - before[0]);
            primitive.turns.push(of_a_run);
        }
    }
    drop(clock);
    let (empty, others) = primitives.split_first().context("the first one is empty")?;
    let figure = |primitive: &Primitive| {
        let what = format!("a program of only: {}", primitive.name);
        Figure::new(what, "ns a run", "a program of its own", &primitive.turns)
    };
    let mut figures = vec![figure(empty)];
    figures.extend(
        others
            .iter()
            .map(|other| figure(other).compared(empty.name, &empty.turns)),
    );
    drop(primitives);
    watching.daemon.stop()?;
    Ok(figures)
}

impl Primitive {
    /// How often it ran at both hooks, and for how many ns.
    fn runs(&self) -> Result<[f64; 2]> {
        let [egress, ingress] = &self.hooks;
        let (egress, ingress) = (runs(&egress.program)?, runs(&ingress.program)?);
        let count = egress.count + ingress.count;
        let nanoseconds = egress.nanoseconds + ingress.nanoseconds;
        Ok([count as f64, nanoseconds as f64])
    }
}

/// Each does one thing and lets the packet pass.
fn codes(sockets: &OwnedFd) -> Vec<(&'static str, Vec<Instruction>)> {
    let one = Instruction::new;
    let call = |helper| one(0x85, 0, 0, helper);
    // r1 = the packet's socket, where it has one.
    let socket = [
        one(0x79, 1, 1, 0).at(SKB_SK),
        one(0x55, 1, 0, 0).at(2),
        PASS[0],
        PASS[1],
    ];
    let with_socket = |code: &[Instruction]| [&socket[..], code].concat();
    // r3 = room on the stack; r2 = where the payload is; r4 = how much of it.
    let load = |bytes: i32| {
        vec![
            one(0xbf, 3, 10, 0),
            one(0x07, 3, 0, -16),
            one(0xb7, 2, 0, PAYLOAD),
            one(0xb7, 4, 0, bytes),
            call(26),
        ]
    };
    let codes = [
        ("nothing", vec![]),
        ("bpf_ktime_get_boot_ns", vec![call(125)]),
        ("bpf_ktime_get_ns", vec![call(5)]),
        ("bpf_jiffies64", vec![call(118)]),
        ("bpf_skb_load_bytes, 2 B", load(2)),
        ("bpf_skb_load_bytes, 14 B", load(14)),
        (
            "bpf_sk_storage_get, there",
            with_socket(&[
                one(0xbf, 2, 1, 0),
                one(0x18, 1, 1, sockets.as_raw_fd()),
                one(0, 0, 0, 0),
                one(0xb7, 3, 0, 0),
                one(0xb7, 4, 0, 0),
                call(107),
            ]),
        ),
        ("bpf_tcp_sock", with_socket(&[call(96)])),
        ("bpf_sk_fullsock", with_socket(&[call(95)])),
        ("bpf_get_socket_cookie", vec![call(46)]),
        (
            "a byte of the header, in place",
            vec![
                one(0x61, 2, 1, 0).at(SKB_DATA),
                one(0x61, 3, 1, 0).at(SKB_DATA_END),
                one(0xbf, 4, 2, 0),
                one(0x07, 4, 0, 34),
                one(0x2d, 4, 3, 0).at(1),
                one(0x71, 0, 2, 0).at(33),
            ],
        ),
    ];
    let codes = codes.into_iter();
    codes
        .map(|(name, code)| (name, [&code[..], &PASS].concat()))
        .collect()
}
