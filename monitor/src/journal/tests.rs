use super::*;
use crate::{heads::Opening, tracker::Key};

const KEY: Key = (7, Some(Duration::from_secs(1)));
const OTHER: Key = (8, None);

fn origin(layout: &str) -> Origin {
    Origin {
        boot: "this boot".to_owned(),
        layout: layout.to_owned(),
    }
}

fn open(directory: &Path) -> (Journal, Recalled) {
    Journal::open(directory, origin("1-a")).unwrap()
}

fn opening() -> Opening {
    Opening {
        host: Some("chat.example.com".to_owned()),
        ..Opening::default()
    }
}

fn follow(journal: &mut Journal, key: Key) {
    journal.note(&Entry::Followed {
        key,
        since: Duration::from_secs(1),
        cgroup_id: 5,
        cgroup: Some("/chat".into()),
        opening: Some(Owned(opening())),
    });
    journal.commit(Duration::ZERO);
}

fn note(journal: &mut Journal, entry: &Entry<'_>) {
    journal.note(entry);
    journal.commit(Duration::ZERO);
}

fn line(key: Key, line: &[u8]) -> Entry<'_> {
    Entry::Line {
        key,
        line: line.into(),
    }
}

#[test]
fn what_is_not_done_is_recalled() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, recalled) = open(directory.path());
    assert_eq!(recalled.followed.len(), 0);
    follow(&mut journal, KEY);
    follow(&mut journal, OTHER);
    note(
        &mut journal,
        &Entry::CloseFrame {
            key: KEY,
            by_client: false,
        },
    );
    let event = b"an event".as_slice().into();
    note(&mut journal, &Entry::Ended { key: KEY, event });
    drop(journal);
    let (mut journal, recalled) = open(directory.path());
    let followed = &recalled.followed[&KEY];
    assert_eq!(followed.opening, Some(opening()));
    assert_eq!(followed.cgroup.as_deref(), Some("/chat"));
    assert_eq!(followed.close_frames, [false, true]);
    assert_eq!(recalled.ended[&KEY], [b"an event"]);

    note(&mut journal, &line(KEY, b"{}\n"));
    note(&mut journal, &Entry::Done { key: OTHER });
    drop(journal);
    let (mut journal, recalled) = open(directory.path());
    assert_eq!((recalled.followed.len(), recalled.ended.len()), (0, 0));
    assert_eq!(recalled.lines, [(KEY, b"{}\n".to_vec())]);
    assert_eq!(recalled.done, [OTHER]);

    note(&mut journal, &Entry::Done { key: KEY });
    drop(journal);
    let (_, recalled) = open(directory.path());
    assert!(recalled.lines.is_empty());
    assert_eq!(recalled.done, [OTHER, KEY]);
}

#[test]
fn damage_costs_what_stands_behind_it_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let (mut journal, _) = open(directory.path());
    follow(&mut journal, KEY);
    let sound = fs::read(&path).unwrap();
    follow(&mut journal, OTHER);
    drop(journal);
    let whole = fs::read(&path).unwrap();
    for at in sound.len()..whole.len() {
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(open(directory.path()).1.followed.len(), 1, "cut at {at}");
        let mut flipped = whole.clone();
        flipped[at] ^= 0x40;
        fs::write(&path, &flipped).unwrap();
        let (mut journal, recalled) = open(directory.path());
        assert_eq!(recalled.followed.len(), 1, "changed at {at}");
        // It goes on behind what is sound.
        follow(&mut journal, OTHER);
        drop(journal);
        assert_eq!(open(directory.path()).1.followed.len(), 2);
    }
    for foreign in [&b""[..], b"chat", b"closewatch journal 9 and more"] {
        fs::write(&path, foreign).unwrap();
        assert_eq!(open(directory.path()).1.followed.len(), 0);
    }
}

#[test]
fn another_boot_or_layout_keeps_what_it_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    follow(&mut journal, KEY);
    let event = b"an event".as_slice().into();
    note(&mut journal, &Entry::Ended { key: KEY, event });
    note(&mut journal, &line(OTHER, b"{}\n"));
    drop(journal);
    let (journal, recalled) = Journal::open(directory.path(), origin("1-b")).unwrap();
    assert_eq!((recalled.ended.len(), recalled.unreadable), (0, 1));
    assert_eq!((recalled.followed.len(), recalled.lines.len()), (1, 1));
    drop(journal);
    let later = Origin {
        boot: "the next".to_owned(),
        ..origin("1-b")
    };
    let (_, recalled) = Journal::open(directory.path(), later).unwrap();
    assert_eq!((recalled.followed.len(), recalled.lines.len()), (0, 1));
}

#[test]
fn it_stays_small_and_openings_leave_room_for_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    for cookie in 0..50_000 {
        let key = (cookie, None);
        follow(&mut journal, key);
        note(&mut journal, &Entry::Done { key });
    }
    assert!(
        journal.length < 2 * REWRITE_FROM,
        "{} bytes",
        journal.length
    );
    assert_eq!(journal.lost(), 0);

    journal.length_max = journal.length + 100_000;
    for cookie in 50_000..150_000 {
        follow(&mut journal, (cookie, None));
    }
    assert!(journal.lost() > 0);
    let lost = journal.lost();
    note(&mut journal, &line(KEY, b"{}\n"));
    assert_eq!(journal.lost(), lost);
    drop(journal);
    let (_, recalled) = open(directory.path());
    assert_eq!(recalled.lines.len(), 1);
}

#[test]
fn a_directory_that_cannot_be_had_stops_nothing_but_a_second_daemon() {
    let (mut journal, _) = open(Path::new("/proc/closewatch"));
    follow(&mut journal, KEY);
    assert_eq!(journal.lost(), 1);

    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let second = Journal::open(directory.path(), origin("1-a"));
    let error = second.err().unwrap().to_string();
    assert!(error.contains("another closewatch"), "{error}");
    assert!(remove(directory.path()).is_err());
    drop(first);
    assert!(remove(directory.path()).unwrap());
    assert!(!remove(directory.path()).unwrap());
}
