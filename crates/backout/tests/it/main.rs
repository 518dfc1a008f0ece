//! The binary as people use it.

#![allow(clippy::unwrap_used, reason = "a test that can not go on says so by panicking")]

mod audit;
mod cases;
mod compose;
mod controller;
mod demo;
mod drill;
mod eject;
mod faults;
mod git_target;
mod guide;
mod hosts;
mod incident;
mod interrupt;
mod judging;
mod kills;
mod postgres;
mod races;
mod reading;
mod records;
mod script_target;
mod services;
mod sticky;
mod support;
mod sweep;
mod systemd;
mod trip;
