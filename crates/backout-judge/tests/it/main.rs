//! The judge from outside: against an independent implementation, against the law of large
//! numbers, and against the situations it must and must not fail in.

mod families;
mod others;
mod properties;
mod reference;
mod rollout;
mod sessions;
mod sim;
mod ville;
