//! Several brokers over one journal, and clients that know one of them: whole brokers over pipes, with paused time.

mod advice;
mod moves;
mod world;
