//! Builds the same image twice under circumstances as different as this machine allows.

pub mod checkout;
pub mod circumstances;
pub mod compare;
mod date;
mod tools;
mod user;
