//! The daemon in one line, for `systemctl status`.

use std::{collections::HashSet, fmt};

use super::Daemon;

/// What matters most, of now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Servers that are flagged, whatever their role.
    slow: usize,
    /// Live connections, each local end by itself.
    followed: usize,
    /// Connections that have no record because something was lost: their end, or the record.
    lost: u64,
    /// Some probe is not attached.
    blind: bool,
}

impl Daemon {
    /// Looks at what is known already: asks the kernel for nothing.
    pub(crate) fn status(&self) -> Status {
        let slow: HashSet<_> = self
            .servers
            .flags()
            .filter(|(_, slow)| *slow)
            .map(|(server, _)| server.address)
            .collect();
        let records_lost = self
            .records
            .as_ref()
            .map_or(0, |records| records.file.lost());
        Status {
            slow: slow.len(),
            followed: self.tracker.len(),
            lost: self.ended_unseen + records_lost,
            blind: self.detached_told,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blind {
            f.write_str("nothing is seen: the watched cgroup is gone; ")?;
        }
        let delay = if self.slow == 1 {
            "server delays"
        } else {
            "servers delay"
        };
        let connections = if self.followed == 1 {
            "connection"
        } else {
            "connections"
        };
        write!(
            f,
            "{} {delay} closing, {} {connections} followed, {} lost",
            self.slow, self.followed, self.lost
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_what_matters() {
        let status = |slow, followed, blind| Status {
            slow,
            followed,
            lost: 0,
            blind,
        };
        assert_eq!(
            status(3, 120, false).to_string(),
            "3 servers delay closing, 120 connections followed, 0 lost"
        );
        assert_eq!(
            status(1, 1, true).to_string(),
            "nothing is seen: the watched cgroup is gone; 1 server delays closing, 1 connection followed, 0 lost"
        );
    }
}
