//! What crosses a border of the guest, in one definition for both sides.
//!
//! | between | what | module |
//! |---|---|---|
//! | image and PID 1 | the boot configuration, and what an instance may set over it | [`config`] |
//! | PID 1 and the host | status records, events and commands | [`record`] |
//! | PID 1 and the host | the time channel's frames | [`channel`] |
//! | test programs and the host | faults asked for, observations answered | [`testport`] |
//! | what runs commands and the host | a command asked for, its end told | [`run`] |
//! | NTP helper and network, helper and PID 1 | packets and samples | [`ntp`] |
//! | PID 1 and the guest's programs | the time's bound, in ClockBound's shared memory | [`clockbound`] |
//! | guest agent and the host, agent and PID 1 | the agent's requests, and what it may ask for | [`agent`] |
//! | seed reader and PID 1 | what a seed says, checked by both | [`seed`] |
//!
//! Under all of them lie, to be read first, [`units`] (the signs are defined there, once), [`source`]
//! (the clocks that a guest can follow, and what distinguishes them), [`host_clock`] (what a kernel says of
//! its own) and [`sample`] (what a reading of
//! one is). Nothing here reads a clock or opens a file.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod agent;
pub mod channel;
pub mod clockbound;
pub mod config;
pub mod host_clock;
pub mod ntp;
pub mod record;
pub mod run;
pub mod sample;
pub mod seed;
pub mod source;
pub mod testport;
pub mod units;
