//! Device tasks with scripted drivers and endpoints in virtual time.

mod commands;
mod feeding;
mod scripted;
mod supervising;
mod swapping;
