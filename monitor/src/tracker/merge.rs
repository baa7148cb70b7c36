//! What two states of one socket say together.
//!
//! In: what was known, and another state of it, newer or older. Out: all that both know, and what of it is new.

use monitor_ebpf::event::{Lost, Role, Side, Snapshot};

use super::News;

/// Whether no later event can change how the connection ended.
pub(super) fn has_cause(snapshot: &Snapshot) -> bool {
    let (sent, received) = (&snapshot.sent, &snapshot.received);
    let orderly = sent.fin.is_some() && received.fin.is_some();
    orderly || sent.rst.is_some() || received.rst.is_some()
}

/// Adds what `new` knows to what was known, and returns the facts among it that make news.
pub(super) fn merge(known: &mut Snapshot, new: Snapshot) -> Vec<News> {
    let mut news = Vec::new();
    if known.opened.is_none() && new.opened.is_some() {
        news.push(News::Opened);
    }
    known.opened = known.opened.or(new.opened);
    known.ended = known.ended.or(new.ended);
    known.rtt = known.rtt.or(new.rtt);
    known.closer = known.closer.or(new.closer);
    if new.taken >= known.taken {
        known.taken = new.taken;
        renew(&mut known.sent, &new.sent);
        renew(&mut known.received, &new.received);
    }

    let local = known.role;
    let remote = match local {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    news.extend(merge_side(&mut known.sent, &new.sent, local));
    news.extend(merge_side(&mut known.received, &new.received, remote));
    news
}

/// A Close frame that passed and that TCP never took was none; whether another was hidden behind it, nobody
/// knows.
pub(super) fn refuse(side: &mut Side) {
    if side.close_left {
        side.close = None;
        side.lost = Some(Lost::Refused);
    }
}

/// Takes over from a newer state what can change back.
fn renew(known: &mut Side, new: &Side) {
    known.lost = new.lost;
    known.only_control = new.only_control;
    known.close_left = new.close_left;
    known.fin = new.fin;
    known.fin_answers_fin = new.fin_answers_fin;
    if new.reread && known.close.is_some() {
        known.close = new.close;
    }
    // Where frames were missed, what was taken for a Close frame is none if more follows. What one state
    // told, every newer one has.
    if new.missed && known.close != new.close {
        known.close = None;
    }
}

fn merge_side(known: &mut Side, new: &Side, sender: Role) -> Option<News> {
    let first_close = new.close.filter(|_| known.close.is_none());
    known.close = known.close.or(new.close);
    known.fin = known.fin.or(new.fin);
    known.rst = known.rst.or(new.rst);
    known.fin_answers_fin |= new.fin_answers_fin;
    known.frames = known.frames.max(new.frames);
    known.missed |= new.missed;
    known.reread |= new.reread;
    first_close.map(|close| News::CloseFrame {
        sender,
        code: close.code,
    })
}
