//! What `/api/v1/` says: fields are a promise, and so is their meaning (README, "The API").
//!
//! In: what the loop took out of its state, as owned data. Out: values that serialise. All of it is
//! made and encoded off the loop. Text that a peer controls was bounded where it was read; JSON
//! escapes it, and nothing else is done to it.

mod connections;
mod health;
mod servers;

pub(crate) use self::{
    connections::{Connections, Cursor, Page, Selection, look},
    health::{Health, Probe, Records, ServerCount},
    servers::{Row, Servers, ServersNow},
};
