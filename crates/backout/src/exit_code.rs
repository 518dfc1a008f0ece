//! Exit codes: fixed, so that scripts can rely on them.

/// Done, healthy.
pub const OK: u8 = 0;
/// Failed, and nothing was changed. Of `check`: failing, or nobody can tell.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// Stopped watching or waiting; what was watched goes on.
pub const STOPPED_WATCHING: u8 = 3;
/// Refused by a rule or for lack of a confirmation; nothing was changed.
pub const REFUSED: u8 = 4;
/// Somebody else's operation is in the way.
pub const BUSY: u8 = 5;
/// The deploy failed and was rolled back; what runs now is healthy.
pub const ROLLED_BACK: u8 = 10;
/// Rolled back, and what runs now is not healthy.
pub const ROLLED_BACK_UNHEALTHY: u8 = 11;
/// The operation could not continue and waits for a person.
pub const STUCK: u8 = 12;
/// The deploy fails and was left live, because automatic rollback is switched off.
pub const LEFT_LIVE: u8 = 13;
