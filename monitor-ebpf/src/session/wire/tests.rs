use proptest::{collection::vec, prelude::*};

use super::*;

const BIO: u64 = 0x1000;
const BUFFER: u64 = 0x2000;

/// Everything that is written to one outlet: as long as said, each from the same place in memory on.
fn write(wire: &mut Wire, length: u32, first: u64) -> u32 {
    wire.write(BIO, BUFFER + u64::from(length), length, first, false, true)
}

#[test]
fn what_was_written_last_passes_with_its_last_byte() {
    let mut wire = Wire::default();
    let hello = write(&mut wire, 100, 1);
    wire.found(BIO, hello, 5_000);
    assert!(wire.go_out(5_100, 10));
    assert_eq!(wire.passed_ns(), 10);

    write(&mut wire, 50, 2);
    assert!(!wire.has_all_gone_out());
    assert!(!wire.go_out(5_149, 11), "all but one byte");
    assert!(!wire.go_out(5_100, 12), "what went out before");
    assert!(wire.go_out(5_150, 13));
    assert!(!wire.go_out(5_150, 14), "once more");
    assert_eq!(wire.passed_ns(), 13);
}

#[test]
fn what_is_offered_again_is_counted_once() {
    let mut wire = Wire::default();
    let at = write(&mut wire, 100, 1);
    // Nothing of it was taken.
    assert_eq!(write(&mut wire, 100, 1), at);
    // Then 60 bytes.
    let rest = wire.write(BIO, BUFFER + 100, 40, 9, false, true);
    assert_eq!(rest, 60);
    assert_eq!(write(&mut wire, 100, 2), 100, "another of the same length");
    assert_eq!(write(&mut wire, 30, 3), 200);
}

#[test]
fn a_buffer_in_front_of_the_connection_has_numbers_of_its_own() {
    let mut wire = Wire::default();
    let buffered = 0x3000;
    for (length, at) in [(100, 0), (200, 100)] {
        let end = BUFFER + u64::from(length);
        assert_eq!(
            wire.write(buffered, end, length, at, false, true),
            at as u32
        );
    }
    // The buffer is emptied into the connection.
    assert_eq!(wire.write(BIO, 0x5000, 300, 0, false, true), 0);
    wire.found(BIO, 0, 1_000);
    assert!(wire.go_out(1_300, 5));
    // Another one takes the place of the first.
    assert_eq!(wire.write(0x4000, 0x6000, 10, 4, false, true), 0);
    let at = wire.write(BIO, BUFFER + 20, 20, 5, false, true);
    assert_eq!(at, 300);
    assert!(wire.go_out(1_320, 6));
}

#[test]
fn what_waits_is_not_moved_by_what_follows() {
    let mut wire = Wire::default();
    let hello = write(&mut wire, 100, 1);
    wire.found(BIO, hello, 0);
    write(&mut wire, 30, 2);
    // An alert behind a Close frame.
    wire.write(BIO, BUFFER + 24, 24, 3, false, false);
    assert!(wire.go_out(130, 7));
    assert_eq!(wire.passed_ns(), 7);
}

#[test]
fn before_a_record_is_found_nothing_is_known_to_have_passed() {
    let mut wire = Wire::default();
    let first = write(&mut wire, 100, 1);
    assert!(!wire.go_out(u32::MAX, 1));
    wire.found(BIO, first, 700);
    assert!(wire.go_out(800, 2));
}

#[test]
fn records_of_the_kernel_pass_with_the_first_packet_behind_the_call() {
    let mut wire = Wire::default();
    let hello = write(&mut wire, 100, 1);
    wire.found(BIO, hello, 0);
    assert!(wire.go_out(100, 1));
    wire.write(BIO, BUFFER, 50, 2, true, true);
    assert!(wire.go_out(172, 3));
    assert_eq!(wire.passed_ns(), 3);
}

#[test]
fn what_comes_again_counts_from_when_it_first_came() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    // A hole, and what fills it.
    wire.come_in(1_200, Received::Records, 20);
    wire.come_in(1_100, Received::Records, 30);
    wire.come_in(1_200, Received::Records, 40);
    assert_eq!(wire.came_in(9, 100, 50), 20);
}

#[test]
fn an_alert_may_overtake_what_it_follows() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    wire.come_in(1_054, Received::Alert, 20);
    wire.come_in(1_030, Received::Records, 30);
    assert_eq!(wire.came_in(9, 100, 50), 30);
    // It is still behind.
    assert_eq!(wire.came_in(2, 100, 50), 30);
}

#[test]
fn an_empty_close_frame_is_as_long_as_an_alert() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    wire.come_in(1_024, Received::Alert, 20);
    wire.come_in(1_048, Received::Alert, 30);
    assert_eq!(wire.came_in(2, 100, 50), 20);
    assert_eq!(wire.came_in(9, 100, 50), 10);
}

#[test]
fn before_anything_came_in_it_came_when_it_is_handed_out() {
    assert_eq!(Wire::default().came_in(9, 100, 50), 50);
}

#[test]
fn a_process_that_puts_bytes_into_the_library_has_read_all_when_it_finds_nothing_more() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    wire.begin_reading();
    wire.end_reading(11, 11, false);
    assert!(wire.has_unread(false));
    wire.begin_reading();
    wire.end_reading(12, 12, true);
    assert!(!wire.has_unread(false));
    wire.come_in(1_050, Received::Records, 13);
    assert!(wire.has_unread(false));
}

#[test]
fn who_waits_has_read_all() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    wire.begin_reading();
    assert!(!wire.has_unread(false));
}

#[test]
fn a_socket_says_how_far_it_was_read() {
    let mut wire = Wire::default();
    let hello = write(&mut wire, 100, 1);
    wire.found(BIO, hello, 0);
    wire.go_out(100, 5);
    wire.end_writing(4);
    wire.come_in(1_000, Received::Records, 10);
    assert!(wire.has_unread(false), "nobody was seen to read it");
    wire.begin_reading();
    wire.end_reading(11, 12, false);
    assert!(
        wire.has_unread(true),
        "an RST may tell of bytes that are left"
    );
    assert!(!wire.has_unread(false));
    wire.note_consumed(1_000);
    assert!(!wire.has_unread(true));
    wire.note_consumed(999);
    assert!(wire.has_unread(false));
    // A FIN counts as a byte.
    wire.note_consumed(1_001);
    assert!(!wire.has_unread(true));
}

#[test]
fn of_two_records_as_long_as_an_alert_one_may_be_a_close_frame() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    wire.begin_reading();
    wire.end_reading(11, 11, true);
    wire.come_in(1_024, Received::Alert, 20);
    assert!(!wire.has_unread(false));
    wire.come_in(1_048, Received::Alert, 21);
    assert!(wire.has_unread(false));
}

#[test]
fn two_bytes_of_more_are_no_empty_close_frame() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    wire.come_in(1_024, Received::Alert, 20);
    assert_eq!(wire.came_in(2, 2, 50), 10);
}

#[test]
fn a_call_that_has_not_returned_is_told_from_the_next() {
    let mut wire = Wire::default();
    assert!(wire.begin_reading() && wire.begin_writing());
    assert!(!wire.begin_reading() && !wire.begin_writing());
    wire.end_reading(1, 2, false);
    wire.end_writing(1);
    assert!(wire.begin_reading() && wire.begin_writing());
}

#[test]
fn what_goes_out_and_was_not_written_here_is_noticed() {
    let mut wire = Wire::default();
    let hello = write(&mut wire, 100, 1);
    wire.found(BIO, hello, 0);
    wire.go_out(131, 5);
    assert!(!wire.has_sent_unseen(), "an alert");
    wire.go_out(200, 6);
    assert!(wire.has_sent_unseen());
}

proptest! {
    /// Whatever is taken of what is offered, in whatever packets it goes out: the last byte passes with the first packet
    /// that has it.
    #[test]
    fn every_record_passes_when_its_last_byte_does(
        base in any::<u32>(),
        records in vec((20_u32..400, 0_u32..400, 1_u32..300), 1..30),
    ) {
        let mut wire = Wire::default();
        let mut written = 0_u32;
        let mut sent = 0_u32;
        for (number, (length, taken, packet)) in records.into_iter().enumerate() {
            let end = BUFFER + u64::from(length);
            let first = number as u64 + 1;
            let at = wire.write(BIO, end, length, first, false, true);
            prop_assert_eq!(at, written);
            if number == 0 {
                wire.found(BIO, at, base);
            }
            if taken < length {
                // The rest once more, or all of it.
                let left = length - taken;
                prop_assert_eq!(wire.write(BIO, end, left, if taken == 0 { first } else { 0 }, false, true), written + taken);
            }
            written += length;
            while sent < written {
                sent = written.min(sent + packet);
                let passes = wire.go_out(base.wrapping_add(sent), u64::from(sent));
                prop_assert_eq!(passes, sent == written);
            }
            prop_assert_eq!(wire.passed_ns(), u64::from(written));
        }
    }
}

#[test]
fn what_is_as_short_as_an_alert_and_not_read_may_be_a_close_frame() {
    let mut wire = Wire::default();
    wire.come_in(1_000, Received::Records, 10);
    wire.end_reading(12, 12, true);
    assert!(!wire.has_unread_alert(0));
    wire.come_in(1_024, Received::Alert, 20);
    assert!(wire.has_unread_alert(0));
    assert!(wire.has_unread_alert(21), "it came before the FIN");
    assert!(!wire.has_unread_alert(19), "it answers the FIN");
    wire.end_reading(30, 30, true);
    assert!(!wire.has_unread_alert(0));
}

#[test]
fn a_record_has_gone_out_when_a_byte_of_it_has() {
    let mut wire = Wire::default();
    let hello = write(&mut wire, 100, 1);
    wire.found(BIO, hello, 5_000);
    wire.go_out(5_100, 10);
    let at = write(&mut wire, 50, 2);
    assert!(wire.has_gone_out(BIO, hello));
    assert!(!wire.has_gone_out(BIO, at));
    assert!(!wire.has_gone_out(0x3000, hello), "another outlet");
    wire.go_out(5_101, 11);
    assert!(wire.has_gone_out(BIO, at));
}
