//! Programs of OpenSSL's own, and one that calls the library itself.

use std::fs;

use super::{
    Cases,
    cases::{by_library, by_program},
    rule::settle,
};
use crate::{peers::Peer, sandbox::Plays, scene::Scene, turn};

#[test]
#[ignore = "needs root"]
fn of_openssl() {
    let _turn = turn();
    let mut scene = Scene::new(None);
    let daemon = scene.daemon();
    let library = Cases::new(0, by_library());
    library.run_with(&mut scene, "library_peer.py");

    let program = Cases::new(50, by_program());
    let peers = program.begin_with(&mut scene, "openssl_peer.py");
    for _ in &program.all {
        peers[1].await_line("open");
    }
    // They have programs of their own.
    scene.sandbox.note_processes(0, Plays::Both);
    peers.into_iter().rev().for_each(Peer::finish);
    for (port, _) in &program.all {
        let own = fs::read_to_string(scene.sandbox.path(&format!("keys-{port}"))).unwrap();
        let keys = scene.sandbox.path("keys");
        let all = fs::read_to_string(&keys).unwrap();
        fs::write(keys, all + &own).unwrap();
    }
    let observed = scene.finish(daemon);
    settle("of_openssl", &observed, None, &[&library, &program]);
}
