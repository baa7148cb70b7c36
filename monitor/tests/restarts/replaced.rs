//! A watched cgroup that is replaced while the probes are pinned.

use std::fs;

use crate::{
    late::{Case, Late},
    pinned::{Bpffs, kill, start},
    turn,
    verdict::Expect,
};

fn case() -> Case {
    Case {
        name: "clean",
        address: "127.0.0.1",
        server: "accept; say:open; await-word:go-on; turns:3; await-close; close; end".to_owned(),
        client: "upgrade; say:open; await-word:go-on; turns:3; close; await-close; await-eof; end"
            .to_owned(),
        expect: Expect::Opened,
    }
}

#[test]
#[ignore = "needs root"]
fn a_cgroup_that_replaces_the_watched_one_is_watched_and_pinned() {
    let _turn = turn();
    let mut late = Late::new();
    let bpffs = Bpffs::mount(late.sandbox());
    let mut daemon = start(&late, &bpffs);
    let first = bpffs.link("observe_egress");
    let cgroup = late.sandbox().cgroup_directory().to_owned();
    fs::remove_dir(&cgroup).unwrap();
    fs::create_dir(&cgroup).unwrap();
    daemon.await_log("probes attached to the new one");
    let second = bpffs.link("observe_egress");
    assert_ne!(second["id"], first["id"]);
    assert_ne!(second["cgroup_id"], first["cgroup_id"]);
    late.raw("127.0.0.1", 9500, &[&case()]);
    kill(daemon);

    // And one that is replaced while nobody runs.
    let daemon = start(&late, &bpffs);
    assert_eq!(bpffs.link("observe_egress")["id"], second["id"]);
    late.go_on();
    let observed = late.finish(daemon);
    assert_eq!(observed.counts.adopted, 0.0);
    assert_eq!(observed.records.len(), 2);
    for record in &observed.records {
        assert_eq!(record["path"], "/raw", "{record}");
        assert_eq!(record["outcome"], "clean", "{record}");
    }
    fs::remove_dir(&cgroup).unwrap_or_default();
}
