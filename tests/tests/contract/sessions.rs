//! Cards, overrides and transactions, across crashes and outages (A7, B3, B15, B23).

mod broker;
mod charging;
mod crash;
mod log;
