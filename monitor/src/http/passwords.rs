//! Are these the user's name and password?
//!
//! bcrypt takes tens of milliseconds on purpose, so one password at a time is looked at, on a thread of its
//! own, and what came of it is remembered. A flood of wrong ones holds up nobody whose password is known
//! already; before that, a network has a few turns in the queue, and the others theirs in between.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Result, anyhow};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};
use tokio::{sync::Semaphore, task, time};

use super::{ANSWER_WITHIN, places::network};
use crate::web_config::WebConfig;

/// Passwords of one network that wait to be looked at.
const WAITING_PER_NETWORK: usize = 8;
/// Wrong passwords that are remembered. The right ones are as many as there are users.
const WRONG_MAX: usize = 100;
/// Right ones that are remembered: more than any such file has users.
const RIGHT_MAX: usize = 1000;

/// What came of looking at a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Too many others are being looked at.
    Busy,
}

pub(super) struct Passwords {
    /// Of this run: what is remembered cannot be compared with anything else.
    key: hmac::Key,
    turn: Arc<Semaphore>,
    memory: Mutex<Memory>,
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

type Digest = [u8; 32];

#[derive(Default)]
struct Memory {
    right: HashSet<Digest>,
    wrong: VecDeque<Digest>,
}

impl Passwords {
    pub(super) fn new() -> Result<Self> {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new());
        Ok(Self {
            key: key.map_err(|_| anyhow!("the kernel gives no random bytes"))?,
            turn: Arc::new(Semaphore::new(1)),
            memory: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    /// Looks at the value of an `Authorization` header, or at none. Takes as long for a user who does not exist
    /// as for one who does.
    pub(super) async fn check(
        &self,
        config: &Arc<WebConfig>,
        from: IpAddr,
        authorization: Option<&[u8]>,
    ) -> Verdict {
        let Some(users) = &config.users else {
            return Verdict::Right;
        };
        let Some((user, password)) = authorization.and_then(basic) else {
            return Verdict::Wrong;
        };
        let (hash, exists) = users.hash(&user);
        let digest = self.digest(&[user.as_bytes(), hash.as_bytes(), &password]);
        if let Some(verdict) = self.memory().recall(&digest) {
            return verdict;
        }
        let Some(_waits) = Waits::begin(self, network(from)) else {
            return Verdict::Busy;
        };
        let turn = Arc::clone(&self.turn).acquire_owned();
        let Ok(Ok(turn)) = time::timeout(ANSWER_WITHIN, turn).await else {
            return Verdict::Busy;
        };
        // Another request with the same may have been in front.
        if let Some(verdict) = self.memory().recall(&digest) {
            return verdict;
        }
        let hash = hash.to_owned();
        // Who hangs up meanwhile ends neither this nor the turn that it takes.
        let looked = task::spawn_blocking(move || {
            let right = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(turn);
            right
        });
        let right = looked.await.unwrap_or(false) && exists;
        self.memory().keep(digest, right);
        if right {
            Verdict::Right
        } else {
            Verdict::Wrong
        }
    }

    fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn recall(&self, digest: &Digest) -> Option<Verdict> {
        if self.right.contains(digest) {
            return Some(Verdict::Right);
        }
        self.wrong.contains(digest).then_some(Verdict::Wrong)
    }

    fn keep(&mut self, digest: Digest, right: bool) {
        if right {
            if self.right.len() >= RIGHT_MAX {
                self.right.clear();
            }
            self.right.insert(digest);
            return;
        }
        if self.wrong.len() >= WRONG_MAX {
            self.wrong.pop_front();
        }
        self.wrong.push_back(digest);
    }
}

/// One of a network's places in the queue.
struct Waits<'a> {
    passwords: &'a Passwords,
    network: IpAddr,
}

impl<'a> Waits<'a> {
    fn begin(passwords: &'a Passwords, network: IpAddr) -> Option<Self> {
        let mut waiting = lock(&passwords.waiting);
        let count = waiting.entry(network).or_default();
        if *count >= WAITING_PER_NETWORK {
            return None;
        }
        *count += 1;
        Some(Self { passwords, network })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.passwords.waiting);
        if let Some(count) = waiting.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.network);
            }
        }
    }
}

/// Name and password of a header's value (RFC 7617).
fn basic(value: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, credentials) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(credentials.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
