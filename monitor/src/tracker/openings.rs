//! What heads said, once for all connections of which they said the same: to most servers come a few clients with a
//! few paths, a hundred thousand times.

use std::{collections::HashSet, sync::Arc};

use crate::heads::Opening;

/// Openings that are remembered at most, so that clients that make up a new path each time fill nothing. Beyond it they
/// all are forgotten here; the connections keep theirs.
const REMEMBERED: usize = 1024;

#[derive(Default)]
pub(super) struct Openings(HashSet<Arc<Opening>>);

impl Openings {
    /// The same, shared with those before it that said the same.
    pub(super) fn share(&mut self, opening: Opening) -> Arc<Opening> {
        if let Some(known) = self.0.get(&opening) {
            return Arc::clone(known);
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        let opening = Arc::new(opening);
        self.0.insert(Arc::clone(&opening));
        opening
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_kept_once_and_no_more_than_is_bounded() {
        let opening = |number: usize| Opening {
            path: Some(format!("/{number}")),
            ..Opening::default()
        };
        let mut openings = Openings::default();
        let first = openings.share(opening(0));
        assert!(Arc::ptr_eq(&first, &openings.share(opening(0))));
        for number in 0..=REMEMBERED {
            assert_eq!(*openings.share(opening(number)), opening(number));
        }
        assert!(openings.0.len() <= REMEMBERED);
        assert_eq!(*first, opening(0));
    }
}
