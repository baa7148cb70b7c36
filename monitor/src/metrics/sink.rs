//! Where the text of a scrape goes. Most of its numbers are 0: they must cost next to nothing.

use std::fmt::{self, Write as _};

use itoa::Buffer;

/// Takes text in.
pub(super) trait Sink: Sized {
    fn push(&mut self, text: &str);

    /// A number, which ends the line.
    fn integer(&mut self, number: u64) {
        if number == 0 {
            self.push("0\n");
        } else {
            self.push(Buffer::new().format(number));
            self.push("\n");
        }
    }

    /// The same.
    fn float(&mut self, number: f64) {
        if number == 0.0 {
            self.push("0\n");
        } else {
            // Takes everything in.
            let _ = writeln!(Formatted(self), "{number}");
        }
    }
}

impl Sink for Vec<u8> {
    fn push(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl Sink for String {
    fn push(&mut self, text: &str) {
        self.push_str(text);
    }
}

/// Keeps none of it, only how long it is.
#[derive(Default)]
pub(super) struct Length(usize);

impl Length {
    pub(super) fn length(&self) -> usize {
        self.0
    }
}

impl Sink for Length {
    fn push(&mut self, text: &str) {
        self.0 += text.len();
    }
}

struct Formatted<'a, S>(&'a mut S);

impl<S: Sink> fmt::Write for Formatted<'_, S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push(text);
        Ok(())
    }
}
