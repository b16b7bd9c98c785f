//! What an independent client sees of the simulated org.

mod client;
mod logins;
mod members;
mod server;
mod tooling;
