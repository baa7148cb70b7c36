//! Users and the bcrypt hashes of their passwords.

use std::{collections::BTreeMap, fmt, str::FromStr as _};

use anyhow::{Context as _, Result, ensure};
use bcrypt::HashParts;

/// One try takes some 2 s at this cost, doubled by each one more; the answer must come within seconds.
const COST_MAX: u32 = 15;

/// At least one user with the hash of a password.
pub(crate) struct Users {
    hashes: BTreeMap<String, String>,
    /// What the password of a user who does not exist is compared with.
    of_nobody: String,
}

impl Users {
    /// None when there are no users: then no password is asked for.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Option<Self>> {
        let mut cost_max = None;
        for (user, hash) in &hashes {
            // Basic authentication puts a colon between the two.
            ensure!(
                !user.contains(':'),
                "basic_auth_users: {user:?} has a colon, with which nobody can log in"
            );
            let cost = HashParts::from_str(hash).ok().map(|parts| parts.get_cost());
            let cost = cost.filter(|cost| (4..=31).contains(cost)).with_context(|| {
                format!("basic_auth_users: the password of {user:?} is no bcrypt hash: make one with `htpasswd -nBC 10 \"\"`")
            })?;
            ensure!(
                cost <= COST_MAX,
                "basic_auth_users: the hash of {user:?} has a cost of {cost}, which takes too long to check: use {COST_MAX} at most"
            );
            cost_max = cost_max.max(Some(cost));
        }
        let Some(cost) = cost_max else {
            return Ok(None);
        };
        // No password has it: 23 bytes of zeros are not what bcrypt makes of anything that is known.
        let of_nobody = format!("$2b${cost:02}${}", ".".repeat(53));
        Ok(Some(Self { hashes, of_nobody }))
    }

    /// The hash to compare a password with, and whether there is such a user. It takes as long for one who
    /// does not exist.
    pub(crate) fn hash(&self, user: &str) -> (&str, bool) {
        match self.hashes.get(user) {
            Some(hash) => (hash, true),
            None => (&self.of_nobody, false),
        }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.hashes.keys()).finish()
    }
}
